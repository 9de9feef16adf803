"""The page a person sees at ``/``.

Plain HTML with one style sheet: nothing on it needs a script, and its policy allows none. All texts
come from strangers and are escaped by the templates.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import trio
from starlette.responses import Response

from p2prss.errors import P2prssError
from p2prss.feed.model import ArchivedItem, Role
from p2prss.serve.delivery import delivery
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.ranges import if_none_match_hits
from p2prss.serve.responses import not_modified
from p2prss.serve.urls import asset_path, enclosures, episode_path, feed_path, stored_name
from p2prss.serve.xml_text import as_xml_text
from p2prss.units import MB

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWS_WITH_EPISODES: Final = 50  # the others are listed by name only, so that the page stays quick
EPISODES_PER_SHOW: Final = 5
SHOW_SECONDS: Final = 2.0  # how long the page waits for a show that is still at a peer

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATIC_TYPES: Final = {"page.css": "text/css; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class EpisodeView:
    """An episode as the page shows it; ``path`` is None while its media is not captured."""

    title: str
    date: str  # ISO 8601
    path: str | None = None  # relative to the page
    mime_type: str = ""
    size: str = ""

    @property
    def is_video(self) -> bool:
        """Which player it needs."""
        return self.mime_type.startswith("video/")


@dataclass(frozen=True, slots=True)
class ShowView:
    """A show as the page shows it; ``episodes`` is None while its list cannot be had."""

    title: str
    feed_url: str
    peers: int
    image: str | None = None
    item_count: int = 0
    episodes: Sequence[EpisodeView] | None = None


class Pages:
    """Answers for people."""

    async def index(self, library: Library, base_url: str) -> Response:
        """The page."""
        feeds = library.feeds()
        views = [_bare_view(feed, base_url) for feed in feeds]

        async def fill(place: int, feed: ServedFeed) -> None:
            # Where it cannot be had, the view stays bare: the page says that its episodes are not here yet.
            with suppress(P2prssError), trio.move_on_after(SHOW_SECONDS):
                views[place] = await _full_view(feed, base_url)

        async with trio.open_nursery() as nursery:
            for place, feed in enumerate(feeds[:SHOWS_WITH_EPISODES]):
                nursery.start_soon(fill, place, feed)
        html = _templates().get_template("index.html").render(shows=views)
        headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}
        return Response(html, headers=headers, media_type="text/html")

    def static(self, name: str, if_none_match: str | None) -> Response | None:
        """A file the page needs; None where there is none of that name."""
        if name not in _STATIC_TYPES:
            return None
        body, etag = _static_file(name)
        caching = "max-age=3600"
        if if_none_match_hits(if_none_match, etag):
            return not_modified(etag, cache_control=caching)
        return Response(
            body, headers={"content-type": _STATIC_TYPES[name], "etag": etag, "cache-control": caching}
        )


def _bare_view(feed: ServedFeed, base_url: str) -> ShowView:
    return ShowView(as_xml_text(feed.title), f"{base_url}{feed_path(feed.key)}feed.xml", feed.peers)


async def _full_view(feed: ServedFeed, base_url: str) -> ShowView:
    info = await feed.archive.info()
    items = await feed.archive.items()
    images = (asset for asset in info.channel_assets if asset.role == Role.IMAGE)
    image = next((path for asset in images if (path := asset_path(feed.key, asset))), None)
    episodes = [_episode_view(feed, item) for item in items[:EPISODES_PER_SHOW]]
    bare = _bare_view(feed, base_url)
    return ShowView(bare.title, bare.feed_url, bare.peers, _relative(image), len(items), episodes)


def _episode_view(feed: ServedFeed, item: ArchivedItem) -> EpisodeView:
    date = (item.published or item.first_seen).date().isoformat()
    view = partial(EpisodeView, as_xml_text(item.title) or "Untitled episode", date)
    for number, asset in enumerate(enclosures(item), 1):
        path, stored = episode_path(feed.key, item, number, asset), stored_name(asset)
        if path and stored:
            size = f"{(asset.byte_length or 0) / MB:.1f} MB"
            return view(_relative(path), delivery(asset.mime_type, stored[1]).mime_type, size)
    return view()


def _relative(path: str | None) -> str | None:
    """Relative to the page, so that it works below any path of a reverse proxy."""
    return path.lstrip("/") if path else None


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # slow to load

    return Environment(
        loader=PackageLoader("p2prss.serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _static_file(name: str) -> tuple[bytes, str]:
    body = (files("p2prss.serve") / "static" / name).read_bytes()
    return body, f'"{sha256(body).hexdigest()[:32]}"'
