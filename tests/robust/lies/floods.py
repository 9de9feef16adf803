"""Floods: more messages than anybody needs."""

from collections.abc import Callable

import trio
import trio.lowlevel

from p2prss.log.proof_parts import BlockProof, Proof
from p2prss.units import KIB, MIB
from p2prss.wire.messages import (
    BitfieldMessage,
    Cancel,
    Data,
    Extension,
    Message,
    NoData,
    Range,
    Sync,
    Unwant,
    Want,
)
from tests.fakes.lying_peer import LyingPeer
from tests.robust.lies.lie import lie


async def flood(peer: LyingPeer, messages: Callable[[int], list[Message]]) -> None:
    """Send messages for ever, a thousand or so to a frame."""
    await peer.ready()
    peer.lied.set()
    number = 0
    while True:
        await peer.say_frame(peer.batch(messages(number)))
        await trio.lowlevel.checkpoint()
        number += 1000


@lie("flood")
async def syncs(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Sync(i % 3, n + i, 0, can_upgrade=True) for i in range(1000)])


@lie("flood")
async def ranges(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Range(2 * (n + i), 1 + i % 2) for i in range(1000)])


@lie("flood")
async def ranges_that_come_and_go(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Range(0, 2**50 - n, drop=bool(i % 2)) for i in range(1000)])


@lie("flood")
async def wants(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Want((n + i) * 32, 32) for i in range(1000)])


@lie("flood")
async def unwants(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Unwant((n + i) * 32, 32) for i in range(1000)])


@lie("flood")
async def bitfields(peer: LyingPeer) -> None:
    words = b"\x55\xaa\x00\xff" * (64 * KIB)
    await flood(peer, lambda n: [BitfieldMessage(n * 32 * KIB, words)] * 8)


@lie("flood")
async def extensions(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Extension(f"name {n}", b"")] * 1000)


@lie("flood")
async def large_extensions(peer: LyingPeer) -> None:
    await flood(peer, lambda _: [Extension("name", bytes(2 * MIB))])


@lie("flood")
async def cancels(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Cancel(n + i) for i in range(1000)])


@lie("flood")
async def refusals_of_what_was_not_asked(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [NoData(10**6 + n + i) for i in range(1000)])


@lie("flood")
async def blocks_that_were_not_asked_for(peer: LyingPeer) -> None:
    value = bytes(64 * KIB)
    await flood(peer, lambda n: [Data(10**6 + n + i, Proof(0, BlockProof(i, value, []))) for i in range(100)])
