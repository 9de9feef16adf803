"""Handshakes that fail, or take for ever."""

import trio
import trio.lowlevel

from p2prss.crypto.keys import CoreKey
from p2prss.wire.messages import (
    ReplicationHandshake,
)
from tests.fakes.lying_peer import LyingPeer
from tests.robust.lies.lie import lie, listen


@lie("bad-capability")
async def the_key_of_another_log(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open(ReplicationHandshake(peer.capability(CoreKey(bytes(32)))).encode())
    await listen(peer)


@lie("bad-capability")
async def the_capability_of_the_other_side(peer: LyingPeer) -> None:
    """It sends back what it was sent."""
    await peer.shake_hands()
    await peer.open((await peer.hear_open()).handshake)
    await listen(peer)


@lie("decode")
async def an_open_without_a_capability(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open(b"\x01")
    await listen(peer)


@lie("bad-frame")
async def bytes_at_random(peer: LyingPeer) -> None:
    await peer.write(peer.random.randbytes(100_000))
    await listen(peer)


@lie("bad-frame")
async def a_web_browser(peer: LyingPeer) -> None:
    await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await listen(peer)


@lie("timeout", waits=True)
async def silence_from_the_start(peer: LyingPeer) -> None:
    peer.lied.set()
    await listen(peer)


@lie("timeout", waits=True)
async def silence_in_the_middle_of_a_length(peer: LyingPeer) -> None:
    await peer.write(b"\x20" if peer.connection.initiator else b"\x60")
    await listen(peer)


@lie("timeout", waits=True)
async def silence_before_the_header(peer: LyingPeer) -> None:
    await peer.flush()
    while not peer.connection.handshake:
        await peer.receive()
        if not peer.connection.handshake:
            await peer.flush()
    frames = peer.connection.data_to_send()
    await peer.write(b"".join(frames[: len(frames) - 1]))  # all but the header
    await listen(peer)


@lie("timeout", waits=True)
async def a_handshake_byte_a_second(peer: LyingPeer) -> None:
    peer.lied.set()
    for byte in b"\x20\0\0" + bytes(200) if peer.connection.initiator else b"\x60\0\0" + bytes(200):
        await peer.write(bytes([byte]))
        await trio.sleep(1.0)
