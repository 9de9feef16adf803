"""Shows to publish, and what a podcast app makes of the feed that comes back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import trio

from tests.e2e.program import fetch
from tests.tools.podcast.request import Hit
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

SMALL: Final = Spec(episodes=4, megabytes=0.2, cover_side=32)
LOCAL: Final = replace(SMALL, relative=True, base_url=".")  # the feed file names what lies beside it
LONG: Final = replace(LOCAL, episodes=2, megabytes=16)  # an episode is more than a player reads ahead


@dataclass(frozen=True)
class Show:
    """A podcast on disk and how it was made."""

    folder: Path
    spec: Spec
    episodes: Sequence[dict[str, Any]]  # as in manifest.json, oldest first

    @classmethod
    def make(cls, folder: Path, spec: Spec = SMALL) -> "Show":
        """Write it, or bring it up to date."""
        return cls(folder, spec, make_podcast(folder, spec)["episodes"])

    @property
    def feed(self) -> Path:
        """Its feed file; addresses in it are relative only with ``Spec.relative``."""
        return self.folder / "feed.xml"

    @property
    def hashes(self) -> Counter[str]:
        """SHA-256 of the episodes that are in the feed."""
        return Counter(one["sha256"] for one in self.episodes if one["number"] not in self.spec.drop)


@dataclass(frozen=True)
class Enclosure:
    """An episode's file as a feed names it."""

    guid: str
    title: str
    url: str
    byte_length: int
    mime_type: str


def enclosures(feed: bytes) -> list[Enclosure]:
    """The enclosures of a feed in its order, read by a parser that forgives nothing."""
    found = []
    for item in ElementTree.fromstring(feed).iterfind("channel/item"):
        for one in item.iterfind("enclosure"):
            size, kind = int(one.attrib["length"]), one.attrib["type"]
            title = item.findtext("title", "")
            found.append(Enclosure(item.findtext("guid", ""), title, one.attrib["url"], size, kind))
    return found


async def served(feed_url: str) -> list[Enclosure]:
    """The enclosures of a feed over HTTP, newest first."""
    reply = await fetch(f"{feed_url}?all=1")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("application/rss+xml")
    return enclosures(reply.content)


async def download(one: Enclosure) -> str:
    """Fetch an episode as an app does: its size and type are what the feed said. Returns: its SHA-256."""
    reply = await fetch(one.url)
    assert reply.status_code == 200, f"{one.url}: {reply.status_code}"
    assert len(reply.content) == one.byte_length == int(reply.headers["content-length"])
    assert reply.headers["content-type"] == one.mime_type
    return sha256(reply.content).hexdigest()


async def downloaded(feed_url: str) -> Counter[str]:
    """SHA-256 of every episode of a served feed."""
    return Counter([await download(one) for one in await served(feed_url)])


async def hashes_of(paths: Iterable[Path]) -> Counter[str]:
    """SHA-256 of files."""
    return Counter([sha256(await trio.Path(path).read_bytes()).hexdigest() for path in paths])


def downloaded_twice(hits: Sequence[Hit]) -> dict[str, int]:
    """Paths whose whole content went out more than once, and how often."""
    whole = Counter(hit.path for hit in hits if hit.method == "GET" and hit.status == 200 and hit.complete)
    return {path: count for path, count in whole.items() if count > 1}
