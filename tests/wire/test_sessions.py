"""Recorded JavaScript sessions, lived again: our two muxes do what the two peers did, byte for byte."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2prss.codec.compact import Buffer, Reader
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey, DiscoveryKey
from p2prss.wire.capability import verify_capability
from p2prss.wire.messages import ReplicationHandshake, decode_message
from p2prss.wire.mux import Closed, Mux, Opened, Received, Rejected, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel
from p2prss.wire.secret_stream import MAX_PLAINTEXT_BYTES

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
SESSIONS = VECTORS["sessions"]
OPEN, REJECT, CLOSE = 1, 2, 3


def items(frame: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(channel, type, payload) of each message in a frame."""
    src = Reader(frame)
    channel, kind = src.uint(), src.uint()
    if (channel, kind) != (0, 0):
        yield channel, kind, bytes(src.rest())
        return
    channel = src.uint()
    while src.remaining:
        size = src.uint()
        if size == 0:
            channel = src.uint()
            continue
        item = Reader(src.view(size))
        yield channel, item.uint(), bytes(item.rest())


class Side:
    """One of the two peers: does what the recording says it did."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.mux = Mux(self._send, MAX_PLAINTEXT_BYTES)
        self.channels: dict[int, MuxChannel] = {}
        self.asked: dict[int, RemoteOpen] = {}
        self.heard: list[tuple[str, Any]] = []

    def _send(self, parts: list[Buffer]) -> None:
        self.sent.append(b"".join(parts))

    def act(self, frame: bytes) -> None:
        """Do what leads to this frame."""
        batched = frame[:2] == b"\0\0"
        if batched:
            self.mux.cork()
        for channel, kind, payload in items(frame):
            src = Reader(payload)
            if channel != 0:
                self.channels[channel].send(kind, payload)
            elif kind == OPEN:
                number = src.uint()
                opened = self.mux.open(src.string(), bytes(src.buffer()), bytes(src.rest()))
                assert opened.local_id == number
                self.channels[number] = opened
            elif kind == REJECT:
                self.mux.reject(self.asked[src.uint()])
            elif kind == CLOSE:
                self.channels[src.uint()].close()
        if batched:
            self.mux.uncork()

    def receive(self, frame: bytes) -> None:
        self.mux.receive(memoryview(frame))
        for event in self.mux.events:
            match event:
                case RemoteOpen():
                    self.asked[event.remote_id] = event
                    self.heard.append(("open", event.id))
                case Opened():
                    if ("open", event.channel.id) not in self.heard:
                        self.heard.append(("open", event.channel.id))
                case Received():
                    self.heard.append(("message", (event.channel.id, event.type, bytes(event.payload))))
                case Rejected():
                    self.heard.append(("reject", event.channel.id))
                case Closed():
                    self.heard.append(("close", event.channel.id))
        self.mux.events.clear()


def core_keys(session: dict[str, Any]) -> list[CoreKey]:
    texts = [session["core_key"]] if "core_key" in session else session["core_keys"].values()
    return [CoreKey(bytes.fromhex(text)) for text in texts]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["name"][:30])
def test_a_recorded_session_can_be_lived_again(session: dict[str, Any]) -> None:
    frames = [(frame["from"], bytes.fromhex(frame["hex"])) for frame in session["frames"] if "hex" in frame]
    names = sorted({name for name, _ in frames})
    sides = {name: Side() for name in names}
    said: dict[str, list[Any]] = {name: [] for name in names}
    crossing: list[tuple[Side, bytes]] = []  # in the recording both close before either hears of it
    for name, frame in frames:
        me, other = sides[name], sides[names[1 - names.index(name)]]
        me.act(frame)
        assert me.sent.pop() == frame
        assert not me.sent
        if any((channel, kind) == (0, CLOSE) for channel, kind, _ in items(frame)):
            crossing.append((other, frame))
        else:
            other.receive(frame)
        for channel, kind, payload in items(frame):
            if channel != 0:
                said[name].append((me.channels[channel].id, kind, payload))
    for other, frame in crossing:
        other.receive(frame)
    for name in names:
        other = sides[names[1 - names.index(name)]]
        assert [what for kind, what in other.heard if kind == "message"] == said[name]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["name"][:30])
def test_recorded_messages_survive_and_capabilities_hold(session: dict[str, Any]) -> None:
    keys = {discovery_key(key): key for key in core_keys(session)}
    handshake_hash = bytes.fromhex(session["handshake_hash"])
    initiator = (
        ("seeder" if session["seeder_is_initiator"] else "client")
        if "seeder_is_initiator" in session
        else ("first" if session["first_is_initiator"] else "second")
    )
    checked = 0
    for frame in session["frames"]:
        for channel, kind, payload in items(bytes.fromhex(frame["hex"])) if "hex" in frame else ():
            if channel != 0:
                message = decode_message(kind, payload)
                assert message is not None
                assert b"".join(message.encode_parts()) == payload
            elif kind == OPEN:
                src = Reader(payload)
                src.uint()
                src.string()
                key = keys[DiscoveryKey(bytes(src.buffer()))]
                shown = ReplicationHandshake.decode(src.rest()).capability
                from_initiator = frame["from"] == initiator
                assert verify_capability(shown, handshake_hash, initiator=from_initiator, core_key=key)
                checked += 1
    assert checked >= 2
