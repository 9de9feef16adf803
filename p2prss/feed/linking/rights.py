"""What a feed says about who may publish it, and whose it is; pure.

All of it is the publisher's own word in the feed's text. A key named in ``podcast:txt`` proves something
only where the text comes from the origin itself: whoever can write there owns the feed.
Source: podcast namespace, tags ``locked``, ``block`` and ``txt``; spec/08-feeds, "Rights".
"""

from dataclasses import dataclass
from typing import Final

from p2prss.crypto.key_text import parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import UsageError
from p2prss.feed.document.names import BLOCK_ID, child_named, name_of, text_of
from p2prss.feed.document.parse import parse_xml

TXT_PURPOSE: Final = "p2prss"  # of the ``podcast:txt`` that names a feed's key
MAX_KEYS: Final = 8  # taken from one feed
MAX_OWNER_LENGTH: Final = 200  # characters of the owner's address

_YES: Final = frozenset({"yes", "true"})


@dataclass(frozen=True, slots=True)
class Rights:
    """``locked``: not to be imported elsewhere without the ``owner``'s leave; ``blocked``: not to be shown.

    ``keys`` are those the feed names as its own.
    """

    locked: bool = False
    owner: str = ""  # whom to ask, as the feed says
    blocked: bool = False
    keys: tuple[CoreKey, ...] = ()

    @property
    def reserved(self) -> str:
        """Why the feed is not for everybody to publish, in a few words; empty when it is."""
        if self.locked:
            return "its publisher has locked it (podcast:locked)"
        return "its publisher does not want it shown elsewhere (podcast:block)" if self.blocked else ""


def read_rights(channel_xml: bytes) -> Rights:
    """The rights in a feed's ``channel.xml``.

    Raises: FeedFormatError when that is no XML.
    """
    root = parse_xml(channel_xml)
    channel = child_named(root, "channel")
    locked, owner = False, ""
    blocked: dict[str, bool] = {}  # by whom it means, empty for everybody
    keys: dict[CoreKey, None] = {}
    for child in channel if channel is not None else ():
        text = text_of(child).strip() if isinstance(child.tag, str) else ""
        match name_of(child):
            case "podcast:locked" if text.lower() in _YES:
                locked, owner = True, child.get("owner", "").strip()[:MAX_OWNER_LENGTH]
            case "podcast:block":
                blocked[child.get("id", "")] = text.lower() in _YES
            case "podcast:txt" if child.get("purpose") == TXT_PURPOSE and (key := _key(text)) is not None:
                keys.setdefault(key)
    is_blocked = blocked.get(BLOCK_ID, blocked.get("", False))
    return Rights(locked, owner, is_blocked, tuple(keys)[:MAX_KEYS])


def _key(text: str) -> CoreKey | None:
    """A key as ``podcast:txt`` holds it: bare, or in a link."""
    for scheme in ("p2prss://", "hyper://", "pear://"):
        text = text.removeprefix(scheme)
    try:
        return parse_key(text.partition("?")[0].strip("/ "))
    except UsageError:
        return None
