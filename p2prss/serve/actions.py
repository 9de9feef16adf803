"""What the page and the API can have the program around them do, and what it tells them.

``node.actions`` implements ``HomeActions``; whoever serves a library without it has a page for
reading only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from p2prss.crypto.keys import CoreKey


@dataclass(frozen=True, slots=True)
class Work:
    """How far the work on a feed is; ``unit`` is "bytes" or "blocks", ``total`` None while unknown."""

    done: int
    total: int | None
    unit: str = "bytes"


@dataclass(frozen=True, slots=True)
class NamedBy:
    """The site that named a feed's key; ``confirmed`` once the feed has named that site in return."""

    site: str  # its host
    confirmed: bool


@dataclass(frozen=True, slots=True)
class FeedState:
    """What a node knows of an open feed besides its text.

    ``role`` is "publish", "follow" or "seed"; ``link`` what to give to others; ``stored_bytes`` about
    what it takes here; ``work`` is None while nothing is fetched; ``problem`` one line, or None.
    """

    role: str
    link: str
    stored_bytes: int = 0
    work: Work | None = None
    problem: str | None = None
    lan_url: str | None = None  # for phones on the local network, if they are served
    quiet: str | None = None  # why it is announced nowhere
    named_by: "NamedBy | None" = None  # where its key was found, if an address was asked for it


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes that the home takes, and that are free on its disk."""

    used_bytes: int
    free_bytes: int


class AddAs(StrEnum):
    """What is wanted of a source.

    ``AUTO``: to follow it; it is published only if this node does so already.
    """

    AUTO = "auto"
    FOLLOW = "follow"
    PUBLISH = "publish"


class AddRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feed to add: ``source`` is a key, a link, or a web address.

    An address is asked for the key of its feed, which is followed. One that names none is mirrored and
    published only when ``as`` says so: others could take that for the show itself.

    ``latest`` is how many of the newest episodes are to be kept here, None for all of them; the others of
    a followed feed come when they are played. Unset, it is as with the commands: 3 of a followed feed, all
    of a published one. ``confirmed``: fetch even a very large show.
    """

    source: str
    latest: int | msgspec.UnsetType | None = msgspec.UNSET
    confirmed: bool = False
    add_as: AddAs = msgspec.field(default=AddAs.AUTO, name="as")


class HomeActions(Protocol):
    """A running node, as the page sees it."""

    @property
    def token(self) -> str:
        """The home's secret: whoever shows it may change things."""

    @property
    def problems(self) -> Sequence[str]:
        """What went wrong of late with feeds that are not here, one line each, newest first."""

    @property
    def ending(self) -> bool:
        """Whether the node is about to end: then live answers do, too."""

    def state(self, key: "CoreKey") -> FeedState | None:
        """Of an open feed; None of another one."""

    async def disk(self) -> DiskUse:
        """What is used and what is free, not older than some seconds."""

    async def status(self) -> msgspec.Struct:
        """All that the node tells about itself; encodes as JSON."""

    async def add(self, request: AddRequest) -> "CoreKey":
        """Open a feed now and keep it; returns when it is listed, if not yet readable.

        Raises: UsageError when the request makes no sense, UnnamedFeedError when an address that is to be
        followed names no feed, and whatever hinders it at once.
        """

    async def remove(self, key: "CoreKey") -> None:
        """Close a feed and delete what is stored of it. Raises: UsageError when it is not open."""
