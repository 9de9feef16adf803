"""Waiting for peers: whoever keeps a feed waits for as long as it takes; commands that are to end give up."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import trio

from p2prss.errors import BlockUnavailableError, NoPeersError
from p2prss.node.open_feed import OpenFeed

GIVE_UP_SECONDS: Final = 30.0  # without a peer
STALL_SECONDS: Final = 120.0  # with peers, but without a single new block
LOOK_SECONDS: Final = 0.5  # between looks at what has arrived
RETRY_SECONDS: Final = 0.5  # before what nobody had is tried again

T = TypeVar("T")


async def keep_trying(step: Callable[[], Awaitable[T]]) -> T:
    """Do a step again and again while it fails for want of blocks: they, or a peer, may come yet.

    Readers give up after a while, as somebody waits for their answer; a feed is kept for ever.
    """
    while True:
        try:
            return await step()
        except (NoPeersError, BlockUnavailableError):
            await trio.sleep(RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a block: ``seconds``, or None for the limits above.

    ``why_nobody`` says in a few words why there is no peer.
    """

    seconds: float | None = None
    why_nobody: Callable[[], str] = lambda: "no peer answers"

    async def watch(self, feed: OpenFeed) -> NoReturn:
        """Never returns. Raises: NoPeersError when nobody has brought a block for too long."""
        last_change, before = trio.current_time(), -1
        while True:
            if feed.db.has(0):
                await feed.blobs()
            held = sum(core.held_total for core in feed.cores)
            now = trio.current_time()
            if held != before:
                last_change, before = now, held
            limit = self.seconds or (STALL_SECONDS if feed.peers else GIVE_UP_SECONDS)
            if now - last_change >= limit:
                who = f"{feed.peers} connected peers bring nothing" if feed.peers else self.why_nobody()
                raise NoPeersError(
                    f"{who}; gave up after {now - last_change:.0f} s, what has arrived is kept"
                )
            await trio.sleep(LOOK_SECONDS)
