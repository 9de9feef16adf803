"""Frames that are none."""

from p2prss.units import KIB, MIB
from p2prss.wire.messages import (
    Data,
    Range,
    Sync,
)
from tests.fakes.lying_peer import PROTOCOL, LyingPeer
from tests.robust.lies.channels import open_item
from tests.robust.lies.lie import lie, listen


@lie("bad-frame")
async def a_frame_that_is_too_short_for_a_mac(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\x10\0\0" + bytes(16))
    await listen(peer)


@lie("bad-frame")
async def a_frame_of_16_mib_that_does_not_decrypt(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\xff\xff\xff")
    for _ in range(64):
        await peer.write(bytes(256 * KIB))
    await listen(peer)


@lie("timeout", waits=True)
async def a_frame_of_16_mib_that_never_ends(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\xff\xff\xff" + bytes(8 * MIB))
    await listen(peer)


@lie("bad-frame")
async def a_repeated_frame(peer: LyingPeer) -> None:
    await peer.ready()
    peer.put(Range(0, 1))
    data = b"".join(peer.connection.data_to_send())
    await peer.write(data + data)
    await listen(peer)


@lie("bad-mux")
async def a_batch_in_a_batch(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\0\0" + b"\x05\0\0\0\0\0" * 3)
    await listen(peer)


@lie("bad-mux")
async def a_channel_number_from_the_blue(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0" + open_item(2**40, PROTOCOL, bytes(32), b""))
    await listen(peer)


@lie("bad-mux")
async def a_reject_of_nothing(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\x02\x7f")
    await listen(peer)


@lie("flood")
async def a_batch_of_a_million_empty_messages(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\0\x7f" + b"\x01\x01" * MIB)
    await listen(peer)


@lie("decode")
async def a_message_that_ends_early(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Sync.TYPE, b"\x01")
    await listen(peer)


@lie("decode")
async def a_count_of_2_32_nodes(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Data.TYPE, b"\x01\x01\0\0\0" + b"\xfe\xff\xff\xff\xff" + bytes(100))
    await listen(peer)


@lie("decode")
async def a_number_above_2_53(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Range.TYPE, b"\0" + b"\xff" * 9 + b"\x01")
    await listen(peer)
