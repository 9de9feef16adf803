"""Channels opened, closed and used as nobody should."""

import trio
import trio.lowlevel

from p2prss.codec.compact import Writer
from p2prss.wire.messages import (
    ReplicationHandshake,
    Want,
)
from tests.fakes.lying_peer import PROTOCOL, LyingPeer
from tests.robust.lies.lie import keep_alive, lie, listen


def open_item(number: int, protocol: str, channel_id: bytes, handshake: bytes) -> bytes:
    """The control message that opens a channel, without the number of the control channel."""
    out = Writer()
    out.uint(1)
    out.uint(number)
    out.string(protocol)
    out.buffer(channel_id)
    out.raw(handshake)
    return out.finish()


@lie("flood")
async def messages_on_a_channel_that_is_not_open(peer: LyingPeer) -> None:
    await peer.shake_hands()
    peer.lied.set()
    items = [open_item(1, "nobody/knows", bytes(32), b"")] + [b"\x01" + bytes(100)] * 1000
    out = Writer()
    out.raw(b"\0\0\0")
    out.buffer(items[0])
    out.raw(b"\0\x01")
    for item in items[1:]:
        out.buffer(item)
    await peer.say_frame(out.finish())
    await listen(peer)


@lie()
async def opens_of_what_nobody_has(peer: LyingPeer) -> None:
    await peer.ready()
    for number in range(20_000):
        item = open_item(2 + number, PROTOCOL, number.to_bytes(32, "little"), bytes(33))
        peer.connection._send_plaintext([b"\0", item])
        if number % 1000 == 999:
            await peer.flush()
            await peer.read()  # each is rejected
    peer.lied.set()
    await keep_alive(peer)


@lie()
async def a_channel_that_is_opened_and_closed_again_and_again(peer: LyingPeer) -> None:
    await peer.shake_hands()
    handshake = ReplicationHandshake(peer.capability()).encode()
    for number in range(5000):
        item = open_item(1, PROTOCOL, peer.truth.discovery_key, handshake)
        peer.connection._send_plaintext([b"\0", item])
        peer.connection._send_plaintext([b"\0\x03\x01"])
        if number % 100 == 99:
            await peer.flush()
            await peer.read()
    peer.lied.set()
    await keep_alive(peer)


@lie(waits=True)
async def reads_nothing_and_wants_everything(peer: LyingPeer) -> None:
    await peer.ready()
    for start in range(2000):
        peer.put(Want(start * 32, 32))
    await peer.flush()
    peer.lied.set()
    while True:  # keeps alive, never reads
        await trio.sleep(5)
        await peer.say_frame(b"")
