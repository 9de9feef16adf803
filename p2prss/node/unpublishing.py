"""Taking a published feed back: the note is signed, the files are dropped, those who listen are told."""

from datetime import UTC, datetime
from typing import Final

import msgspec
import trio

from p2prss.errors import UsageError
from p2prss.feed.archive.withdrawal import withdraw
from p2prss.node.events import Notice, Withdrawn
from p2prss.node.node import Emit, open_node
from p2prss.node.saved_feeds import Role
from p2prss.node.settings import NodeSettings

SPREAD_SECONDS: Final = 600.0  # in which peers are told, unless the user says otherwise


async def unpublish(settings: NodeSettings, text: str, emit: Emit, *, seconds: float) -> None:
    """Withdraw one of our feeds, then tell peers of it for ``seconds``.

    Its source is published under a new key the next time. Raises: UsageError when it is none of ours;
    HomeLockedError while a node runs on this home; FeedFormatError when nothing was ever published.
    """
    async with open_node(settings, emit, with_http=False) as node:
        saved = node.saved.find(text)
        if saved.role is not Role.PUBLISH:
            raise UsageError(
                f"{saved.label} is not published from here, so only its publisher can take it back;"
                " to delete what is here: p2prss remove"
            )
        feed = await node.open_saved(saved, eager=False)
        info = await withdraw(feed.drive, datetime.now(UTC).replace(microsecond=0))
        node.saved.save(msgspec.structs.replace(saved, withdrawn=info.withdrawn))
        emit(Withdrawn(key=saved.key, title=feed.title, version=feed.drive.version))
        if seconds:
            message = f"telling whoever shares it, for {seconds / 60:.0f} minutes; Ctrl-C ends that earlier"
            emit(Notice(message=message, key=saved.key))
            await trio.sleep(seconds)
