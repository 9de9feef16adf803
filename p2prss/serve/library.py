"""What the HTTP side needs from the program around it: a library of feeds, and a few settings.

``node`` implements these protocols; ``serve`` never opens a store, a link or an origin itself.
Everything a feed says was written by a stranger: only keys and item ids get into our own URLs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # they load slowly, and only a running server needs them
    from p2prss.crypto.keys import CoreKey
    from p2prss.drive.blobs import Held
    from p2prss.drive.core import BlockStream
    from p2prss.feed.archive.archive import FeedArchive
    from p2prss.serve.proxies import Network


class ServedDrive(Protocol):
    """What is asked of a drive: files that need not be here yet."""

    async def size(self, path: str, /) -> int:
        """The bytes of the file at ``path``. Raises: UsageError when there is none."""

    async def held(self, path: str, /) -> "Held":
        """How much of the file at ``path`` is here. Raises: UsageError when there is none."""

    def read(self, path: str, start: int, stop: int, /) -> "BlockStream":
        """Bytes ``start`` up to ``stop`` of the file at ``path``, verified, in order, in chunks.

        Missing blocks are fetched, those next to be read first; closing the stream ends the fetch.
        Its steps raise NoPeersError or BlockUnavailableError when nobody sends a block in time.
        """


class ServedFeed(Protocol):
    """One feed of this home."""

    @property
    def key(self) -> "CoreKey":
        """Its key; it stands in every URL of the feed."""

    @property
    def slug(self) -> str:
        """A short name that is unique in this home: ``[a-z0-9-]+``, and never a key."""

    @property
    def title(self) -> str:
        """What to call it; plain text, from the feed or from the user."""

    @property
    def archive(self) -> "FeedArchive":
        """Its items and channel."""

    @property
    def drive(self) -> ServedDrive:
        """Its files."""

    @property
    def peers(self) -> int:
        """Peers connected for it now."""


class Library(Protocol):
    """All feeds of this home."""

    @property
    def ready(self) -> bool:
        """Whether the saved feeds are open, so that an unknown key is really unknown."""

    def feeds(self) -> Sequence[ServedFeed]:
        """The feeds to list, in the order to list them."""

    def find(self, key_or_slug: str) -> ServedFeed | None:
        """The feed of that z-base-32 or hexadecimal key, or of that slug; any text may be asked for."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How the HTTP side presents itself.

    ``allowed_hosts`` are names and addresses, without port, by which clients may address us besides
    the loopback ones and that of ``public_url``; ``public_url`` is the base of all URLs in feeds
    (``https://example.org/pods``) where a reverse proxy stands in front, else they follow each
    request's Host, or what one of ``trusted_proxies`` says it was.

    ``ready_only`` lists only episodes whose audio is here, for apps that take "not now" for an error.
    """

    allowed_hosts: frozenset[str] = frozenset()
    public_url: str | None = None
    trusted_proxies: tuple["Network", ...] = ()
    ready_only: bool = False
