"""What a mirror asks before it fetches: is the file here already, or is the feed itself made here?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from p2prss.feed.archive.records import Asset
from p2prss.feed.archive.writer import FeedWriter
from p2prss.feed.origin.fetch import Fetched, Fetcher


class Shelf(Protocol):
    """Somewhere on this machine where files of a feed may lie."""

    async def take(self, asset: Asset, title: str, fetcher: Fetcher, into: Path) -> Fetched | None:
        """Copy the file that the asset means to ``into``; None where it is not here.

        Args: title: of the item, or of the feed; fetcher: for asking the origin whether it is the same.
        Raises: FetchError, TryAgainError, as fetching would; StorageError when it cannot be written.
        """
        ...


class MadeFeed(Shelf, Protocol):
    """A source whose feed is made or found here; its files are taken from it as from a shelf."""

    @property
    def url(self) -> str:
        """Where the relative addresses of its feed start, as a ``file:`` URL."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What the last look found odd, and none before: lines for the user."""
        ...

    async def read(self, into: Path) -> Fetched:
        """Write the feed's document as it is now to ``into``.

        Raises: FeedError when there is none.
        """
        ...

    async def write_pages(self, writer: FeedWriter) -> None:
        """Bring whatever else belongs to it up to date in the drive."""
        ...
