"""Recorded sessions of the reference: with its client before us, we say what its seeder said."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.crypto.keys import CoreKey, KeyPair, PublicKey
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.proof_parts import BlockRequest, ProofRequest
from p2prss.log.store import Store
from p2prss.wire.messages import Message, Request, Sync, decode_message
from tests.fakes.replication_network import SimulatedNetwork, SimulatedNode, copy_of, reader_of

VECTORS: Final = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
SESSIONS: Final = {session["name"].partition(",")[0]: session for session in VECTORS["sessions"][:7]}
_STEP: Final = 0.01  # seconds between two messages of a recording: nobody is to be reminded of anything
SIGNER: Final = KeyPair.from_seed(bytes([VECTORS["capability"]["signer_seed"]] * 32))


def messages_of(frame: Buffer) -> list[Message]:
    """The replication messages in a plaintext mux frame; control messages are left out."""
    src = Reader(frame)
    channel, kind = src.uint(), src.uint()
    found: list[tuple[int, int, memoryview]] = []
    if channel:
        found.append((channel, kind, src.rest()))
    elif kind == 0:  # a batch
        channel = src.uint()
        while src.remaining:
            size = src.uint()
            if not size:
                channel = src.uint()
                continue
            item = Reader(src.view(size))
            found.append((channel, item.uint(), item.rest()))
    decoded = [decode_message(kind, payload) for channel, kind, payload in found if channel]
    return [message for message in decoded if message is not None]


def encoded(message: Message) -> bytes:
    out = Writer()
    message.encode(out)
    return bytes([message.TYPE]) + out.finish()


def seeder_log(session: dict[str, Any]) -> Log:
    """What the seeder had when the recording began."""
    length = next(
        item["sync"]["length"]
        for frame in session["frames"]
        if frame.get("from") == "seeder"
        for item in frame["decoded"]
        if "sync" in item
    )
    key = CoreKey(bytes.fromhex(session["core_key"]))
    manifest = Manifest.single(PublicKey(SIGNER.public_key))
    log = Store.in_memory().open_log(
        key, manifest=manifest if key == core_key(manifest) else None, key_pair=SIGNER
    )
    log.append([b"block %d" % index for index in range(length)])
    return copy_of(log, [0, 4]) if session["name"].startswith("sparse") else log


def act(seeder: SimulatedNode, note: str) -> None:
    """What the seeder's program did, as a note of the recording says."""
    match note:
        case "seeder: append 1 block":
            seeder.append([b"block 5"])
        case "seeder downloads block 2 from elsewhere":
            request = ProofRequest(0, block=BlockRequest(2, 2))
            seeder.log.apply([(request, whole_log(6).answer(request))])
            seeder.changed()
        case "seeder: truncate(3)":
            seeder.log.truncate(3)
            seeder.replicator.core_changed(seeder.network.now, truncated_to=3)
            seeder.drain()
        case "seeder: append":
            seeder.append([b"new 3"])


def whole_log(length: int) -> Log:
    manifest = Manifest.single(PublicKey(SIGNER.public_key))
    log = Store.in_memory().open_log(core_key(manifest), manifest=manifest, key_pair=SIGNER)
    log.append([b"block %d" % index for index in range(length)])
    return log


@pytest.mark.parametrize("name", SESSIONS)
def test_our_seeder_says_what_the_reference_said(name: str) -> None:
    session = SESSIONS[name]
    network = SimulatedNetwork()
    seeder = network.node("seeder", seeder_log(session))
    client = network.node("client", reader_of(seeder.log))
    client.tamper = lambda _: None  # the recording speaks for it
    link = network.connect(seeder, client)
    expected: list[bytes] = []
    for frame in session["frames"]:
        if note := frame.get("note"):
            act(seeder, note)
            network.run(_STEP)
            continue
        for message in messages_of(bytes.fromhex(frame["hex"])):
            if frame["from"] == "seeder":
                expected.append(encoded(message))
            else:
                seeder.replicator.receive(link.numbers[seeder], message, network.now)
                seeder.drain()
        network.run(_STEP)
    said = [encoded(message) for to, message in seeder.sent if to == "client"]
    # The reference repeats itself more often, and its answers cross each other.
    assert set(said) == set(expected)
    assert len(said) <= len(expected)
    syncs = [line for line in expected if line[0] == Sync.TYPE]
    assert [line for line in said if line[0] == Sync.TYPE][-1] == syncs[-1]
    assert not seeder.dropped


def test_our_client_begins_like_the_reference() -> None:
    session = SESSIONS["full download of 5 blocks"]
    network = SimulatedNetwork()
    seeder = network.node("seeder", seeder_log(session))
    client = network.node("client", reader_of(seeder.log))
    network.connect(seeder, client)
    network.run(5)
    theirs = [
        message
        for frame in session["frames"]
        if frame.get("from") == "client"
        for message in messages_of(bytes.fromhex(frame["hex"]))
    ]
    ours = [message for _, message in client.sent]
    assert ours[0] == theirs[0]
    first, their_first = (next(m for m in side if isinstance(m, Request)) for side in (ours, theirs))
    assert first.proof == their_first.proof
    last_sync, their_last = ([m for m in side if isinstance(m, Sync)][-1] for side in (ours, theirs[:6]))
    assert last_sync == their_last


def test_a_block_asked_for_after_the_reference_client_has_the_same_counter() -> None:
    client = copy_of(seeder_log(SESSIONS["full download of 5 blocks"]), [])
    assert client.length == 5
    network = SimulatedNetwork()
    seeder = network.node("seeder", whole_log(5))
    node = network.node("client", client)
    node.replicator.want(2, 3)
    network.connect(seeder, node)
    network.run(5)
    asked = next(message for _, message in node.sent if isinstance(message, Request))
    assert asked.proof == ProofRequest(0, block=BlockRequest(2, 2))  # as in the recording
