"""Examples of chapters 4 and 5: connections and replication."""

from typing import Any, Final

from p2prss.crypto.keys import CoreKey
from p2prss.log.authority import Authority
from p2prss.log.bitfield import Bitfield
from p2prss.log.merkle import Head
from p2prss.log.proof import make_proof
from p2prss.log.verify import KnownLog, verify_proof
from p2prss.net.exchange import PROTOCOL
from p2prss.replication.node_count import known_level
from p2prss.wire import mux
from p2prss.wire.capability import capability
from p2prss.wire.messages import (
    BitfieldMessage,
    Cancel,
    Data,
    Message,
    NoData,
    NoDataReason,
    Range,
    ReplicationHandshake,
    Request,
    Sync,
    Want,
    decode_message,
)
from p2prss.wire.mux import Mux
from p2prss.wire.noise import NoiseHandshake, Pattern
from p2prss.wire.secret_stream import FrameOpener, FrameSealer, stream_id
from tests.spec.examples_log import grow_given
from tests.spec.reading import Given, Outputs, example


@example("noise xx")
def _noise_xx(given: Given) -> Outputs:
    ends = [
        NoiseHandshake(
            Pattern.XX,
            initiator=initiator,
            key_pair=given.seed(f"{name} static seed"),
            ephemeral_seed=given.hex(f"{name} ephemeral seed"),
        )
        for name, initiator in (("initiator", True), ("responder", False))
    ]
    messages = []
    for number in range(3):
        sender, receiver = ends if number % 2 == 0 else ends[::-1]
        messages.append(sender.send())
        receiver.receive(messages[-1])
    first, second = ends[0].result, ends[1].result
    assert first is not None
    assert second is not None
    assert (first.handshake_hash, first.send_key) == (second.handshake_hash, second.receive_key)
    header = given.hex("initiator stream header")
    identity = stream_id(first.handshake_hash, initiator=True)
    sealer = FrameSealer(first.send_key, header)
    plaintext = given.hex("plaintext")
    frame = bytes(sealer.seal([plaintext]))
    assert FrameOpener(second.receive_key, header).open(frame[3:]) == plaintext
    return {f"message {number}": message for number, message in enumerate(messages, 1)} | {
        "handshake hash": first.handshake_hash,
        "initiator send key": first.send_key,
        "initiator receive key": first.receive_key,
        "header frame": b"\x38\0\0" + identity + header,
        "data frame": frame,
        "keep-alive frame": bytes(sealer.seal([])),
    }


class Wire:
    """A mux whose frames are kept."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.mux = Mux(lambda parts: self.frames.append(b"".join(parts)), 2**24)


@example("mux")
def _mux(given: Given) -> Outputs:
    ours, theirs = Wire(), Wire()
    channel_id, handshake = given.hex("id"), given.hex("handshake")
    channel = ours.mux.open(PROTOCOL, channel_id, handshake)
    theirs.mux.receive(memoryview(ours.frames[0]))
    (opened,) = theirs.mux.events
    assert isinstance(opened, mux.RemoteOpen)
    assert (opened.id, opened.handshake) == (channel_id, handshake)
    theirs.mux.reject(opened)
    ours.mux.cork()
    channel.send(8, b"\1\0\3")
    channel.send(0, b"\7\0\3\0")
    ours.mux.uncork()
    channel.send(2, b"\5")
    channel.close()
    names = ("open", "batch", "message", "close")
    return dict(zip(names, ours.frames, strict=True)) | {"reject": theirs.frames[0]}


# ---- 05 replication


@example("capability")
def _capability(given: Given) -> Outputs:
    key, shared = CoreKey(given.hex("core key")), given.hex("handshake hash")
    first = capability(shared, initiator=True, core_key=key)
    return {
        "initiator": first,
        "responder": capability(shared, initiator=False, core_key=key),
        "channel handshake": ReplicationHandshake(first).encode(),
    }


MESSAGE_NAMES: Final[dict[str, type[Message]]] = {
    "sync": Sync,
    "cancel": Cancel,
    "noData": NoData,
    "want": Want,
    "bitfield": BitfieldMessage,
    "range": Range,
}


@example("message")
def _message(given: Given) -> Outputs:
    kind, *words = given.words("message")
    values: dict[str, Any] = {"uploading": False, "downloading": False} if kind == "sync" else {}
    for word in words:
        name, equals, value = word.partition("=")
        values[name] = True if not equals else bytes.fromhex(value) if name == "words" else int(value)
    if "reason" in values:
        values["reason"] = NoDataReason(values["reason"])
    message = MESSAGE_NAMES[kind](**values)
    payload = b"".join(message.encode_parts())
    assert decode_message(message.TYPE, payload) == message
    return {"type": message.TYPE, "payload": payload}


@example("question and answer")
def _question_and_answer(given: Given) -> Outputs:
    grown = grow_given(given)
    request = decode_message(1, given.hex("request"))
    assert isinstance(request, Request)
    block = request.proof.block
    proof = make_proof(
        grown.head,
        grown.nodes.get,
        request.proof,
        value=grown.blocks[block.index] if block is not None else None,
        manifest=grown.authority.manifest,
    )
    empty = KnownLog(Head.empty(), Authority(grown.authority.key), lambda _: None)
    if request.proof.upgrade is not None:
        change = verify_proof(empty, request.proof, proof)
        assert change.head is not None
        assert change.head.length == grown.head.length
    return {"data": b"".join(Data(request.id, proof).encode_parts())}


@example("node counter")
def _node_counter(given: Given) -> Outputs:
    held = Bitfield()
    for index in given.words("held"):
        held.set(int(index))
    counters = [
        known_level(index, given.number("length"), held)[0] for index in range(given.number("length"))
    ]
    return {"counters": " ".join(map(str, counters))}
