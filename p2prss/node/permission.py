"""Whether a feed may be published from here: its publisher may have locked it."""

from collections.abc import Awaitable, Callable

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import LockedFeedError
from p2prss.feed.linking.rights import TXT_PURPOSE, Rights, read_rights
from p2prss.feed.model import Channel
from p2prss.node.events import Event, Notice

Emit = Callable[[Event], None]
Confirm = Callable[[str], Awaitable[bool]]


class Permission:
    """Asked with every new text of a feed's head, before anything of it is written.

    Args: key: that the feed is published under; given: the user said that it may be, or is announced nowhere.
    """

    def __init__(self, key: CoreKey, *, given: bool, emit: Emit, confirm: Confirm) -> None:
        self._key = key
        self._given = given
        self._emit = emit
        self._confirm = confirm
        self._is_proven: bool | None = None

    async def check(self, channel: Channel) -> None:
        """Say what the feed tells of its owner, and ask where that is somebody else.

        Raises: LockedFeedError when it is locked and nobody says that it may be published all the same.
        """
        rights = read_rights(channel.xml)
        is_proven = self._key in rights.keys
        if is_proven and not self._is_proven:
            self._tell(
                "the feed names this key (podcast:txt): followers can see that it is the publisher's own"
            )
        elif rights.keys and not is_proven and self._is_proven is not False:
            named = format_key(rights.keys[0])
            self._tell(f"the publisher has a feed of their own, {named}: follow or seed that one, if you can")
        self._is_proven = is_proven
        if not rights.reserved or is_proven or self._given:
            return
        title = channel.title or "this feed"
        if await self._confirm(
            f"{title}: {rights.reserved}. Are you its publisher, or do you have their leave?"
        ):
            self._given = True
            return
        raise LockedFeedError(f"{title} is not published: {rights.reserved}; {self._way_out(rights)}")

    def _way_out(self, rights: Rights) -> str:
        whom = f" from {rights.owner}" if rights.owner else ""
        proof = f'<podcast:txt purpose="{TXT_PURPOSE}">{format_key(self._key)}</podcast:txt>'
        return (
            f"if it is yours, put {proof} into it;"
            f" with leave{whom} add --allow-locked; for a copy that is announced nowhere add --unlisted"
        )

    def _tell(self, message: str) -> None:
        self._emit(Notice(message=message, key=format_key(self._key)))
