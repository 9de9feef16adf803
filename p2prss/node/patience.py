"""When to give up on peers: only for commands that are to end (``--once``)."""

from typing import Final, NoReturn

import trio

from p2prss.errors import NoPeersError
from p2prss.node.open_feed import OpenFeed

GIVE_UP_SECONDS: Final = 30.0  # without a peer
STALL_SECONDS: Final = 120.0  # with peers, but without a single new block


async def give_up_when_stalled(feed: OpenFeed) -> NoReturn:
    """Never returns. Raises: NoPeersError when nobody has brought a block for too long."""
    last_change, before = trio.current_time(), -1
    while True:
        held = feed.db.held_total
        if feed.db.length:
            held += (await feed.blobs()).held_total
        now = trio.current_time()
        if held != before:
            last_change, before = now, held
        if now - last_change >= (STALL_SECONDS if feed.peers else GIVE_UP_SECONDS):
            who = f"{feed.peers} connected peers brought nothing" if feed.peers else "no peer answered"
            raise NoPeersError(f"{who} for {now - last_change:.0f} s; what has arrived is kept")
        await trio.sleep(1.0)
