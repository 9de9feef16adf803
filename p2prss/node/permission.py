"""Whether a feed may be announced from here: its publisher may have locked it."""

from collections.abc import Awaitable, Callable

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.feed.linking.rights import TXT_PURPOSE, Rights, read_rights
from p2prss.feed.model import Channel
from p2prss.node.events import Event, Notice

Emit = Callable[[Event], None]
Confirm = Callable[[str], Awaitable[bool]]


class Permission:
    """Asked with every new text of a feed's head, before anything of it is written.

    Args: key: that the feed is published under; given: the user said that it may be announced; quiet: it is
    announced nowhere in any case, so that there is nothing to ask; on_verdict: is told whether it may be, and
    whether that is because the user has just said so.
    """

    def __init__(
        self,
        key: CoreKey,
        *,
        given: bool,
        quiet: bool,
        emit: Emit,
        confirm: Confirm,
        on_verdict: Callable[[bool, bool], None],
    ) -> None:
        self._key = key
        self._given = given
        self._emit = emit
        self._confirm = confirm
        self._on_verdict = on_verdict
        self._is_proven: bool | None = None
        self._is_told = quiet

    async def check(self, channel: Channel) -> None:
        """Say what the feed tells of its owner, and ask where that is somebody else.

        One that may not be announced is mirrored all the same: a copy for oneself needs nobody's leave.
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
        asked = False
        if rights.reserved and not is_proven and not self._given and not self._is_told:
            title = channel.title or "this feed"
            question = f"{title}: {rights.reserved}. Are you its publisher, or do you have their leave?"
            asked = self._given = await self._confirm(question)
            self._is_told = True
            if not asked:
                self._tell(f"{title} is announced nowhere: {rights.reserved}; {self._way_out(rights)}")
        self._on_verdict(not rights.reserved or is_proven or self._given, asked)

    def _way_out(self, rights: Rights) -> str:
        whom = f" from {rights.owner}" if rights.owner else ""
        proof = f'<podcast:txt purpose="{TXT_PURPOSE}">{format_key(self._key)}</podcast:txt>'
        return f"if it is yours, put {proof} into it; with leave{whom} add --allow-locked"

    def _tell(self, message: str) -> None:
        self._emit(Notice(message=message, key=format_key(self._key)))
