"""A lie of a peer, and what most of them do in the end."""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import trio
import trio.lowlevel

from tests.fakes.lying_peer import LyingPeer, Script


class Lie(NamedTuple):
    """What a liar does, and what becomes of it."""

    script: Script
    reason: str | None  # why it is dropped; None: it need not be, but does no harm
    waits: bool  # whether it consists in waiting


def lie(reason: str | None = None, *, waits: bool = False) -> Callable[[Script], Lie]:
    """Make a lie of what a peer does."""
    return lambda script: Lie(script, reason, waits)


def lies_of(*modules: ModuleType) -> dict[str, Lie]:
    """All lies of some modules, by name."""
    return {name: one for module in modules for name, one in vars(module).items() if isinstance(one, Lie)}


async def listen(peer: LyingPeer) -> None:
    """Read until the link ends."""
    peer.lied.set()
    while True:
        await peer.read()


async def keep_alive(peer: LyingPeer) -> None:
    """Be there, and nothing else."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, peer)
        while True:
            await trio.sleep(5)
            await peer.say_frame(b"")
