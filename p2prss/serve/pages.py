"""The pages a person sees.

Plain HTML with one style sheet that reads well without a script; one small script adds the player,
copying, and progress that moves. All texts come from strangers: the templates escape them, and show notes
go through ``show_notes``. A show that cannot be read now is shown as far as it is known.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import trio
from starlette.responses import Response

from p2prss.errors import P2prssError
from p2prss.feed.archive.records import ArchivedItem
from p2prss.feed.document.notes import Texts, texts_of
from p2prss.feed.origin.url import host_of, redact
from p2prss.serve.actions import DiskUse, HomeActions
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.media import NOT_NOW
from p2prss.serve.qr import MAX_QR_LENGTH, qr_svg
from p2prss.serve.ranges import if_none_match_hits
from p2prss.serve.responses import IMMUTABLE, SANDBOX_POLICY, not_modified
from p2prss.serve.show_notes import clean_notes, excerpt
from p2prss.serve.subscribe_links import HONEST_LINE
from p2prss.serve.views import (
    EpisodeView,
    ShowView,
    bare_show,
    cover_among,
    cover_of,
    display_host,
    display_text,
    episode,
    format_bytes,
    format_date,
    format_length,
    pictures_of,
    sentence,
)

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWS_READ: Final = 50  # the others are listed by name only, so that the page stays quick
LATEST_EPISODES: Final = 8  # of all shows together, on the first page
EPISODES_PER_PAGE: Final = 30
SHOW_SECONDS: Final = 2.0  # how long a page waits for a show that is still at a peer
NOTES_SECONDS: Final = 1.0  # and for the beginnings of show notes

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_STATIC_TYPES: Final = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: ``form_value`` goes into forms, None where nothing may be changed.

    ``base_url`` is the beginning of absolute URLs, ``root`` that of relative ones: the way from the page
    to the server's root, so that pages work below any path of a reverse proxy. ``can_sign_in``: there
    is something to be let into.
    """

    base_url: str
    root: str = "./"
    form_value: str | None = None
    can_sign_in: bool = False


class Pages:
    """Answers for people."""

    def __init__(self, library: Library, actions: HomeActions | None = None) -> None:
        self._library = library
        self._actions = actions

    async def index(self, visitor: Visitor) -> Response:
        """All shows, and the newest episodes of all of them."""
        feeds = self._library.feeds()
        shows = [self._bare(feed, visitor) for feed in feeds]
        newest: list[tuple[float, ServedFeed, ArchivedItem, str | None]] = []

        async def fill(place: int, feed: ServedFeed) -> None:
            # Where it cannot be had, the view stays bare: the page says that its episodes are not here yet.
            with self._looking(shows, place), trio.move_on_after(SHOW_SECONDS):
                info, items = await feed.archive.info(), await feed.archive.served_items()
                image = cover_among(feed, info.channel_assets)
                shows[place] = replace(
                    shows[place], image=image, item_count=len(items), withdrawn=_day_of(info.withdrawn)
                )
                newest.extend(
                    ((item.published or item.first_seen).timestamp(), feed, item, image)
                    for item in items[:LATEST_EPISODES]
                )

        async with trio.open_nursery() as nursery:
            for place, feed in enumerate(feeds[:SHOWS_READ]):
                nursery.start_soon(fill, place, feed)
        newest.sort(key=lambda one: one[0], reverse=True)
        chosen = newest[:LATEST_EPISODES]
        episodes = await self._episodes([(feed, item, image) for _, feed, item, image in chosen])
        return self._page(
            "index.html",
            visitor,
            shows=shows,
            episodes=episodes,
            disk=await self._disk(),
            problems=[sentence(text) for text in self._actions.problems] if self._actions else (),
            latest="3",
        )

    async def show(self, feed: ServedFeed, visitor: Visitor, page: int) -> Response | None:
        """One show with a page of its episodes; None where it has no such page."""
        views, items, texts = [self._bare(feed, visitor)], tuple[ArchivedItem, ...](), Texts()
        with self._looking(views, 0), trio.move_on_after(SHOW_SECONDS):
            info = await feed.archive.info()
            items = tuple(await feed.archive.served_items())
            image = cover_among(feed, info.channel_assets)
            views[0] = replace(
                views[0], image=image, item_count=len(items), withdrawn=_day_of(info.withdrawn)
            )
            texts = texts_of(await feed.archive.channel())
            notes = await _clean(texts.notes, pictures_of(feed, info.channel_assets, visitor.root))
            views[0] = replace(views[0], author=display_text(texts.author), notes=notes)
        view = views[0]
        start = (page - 1) * EPISODES_PER_PAGE
        if page > 1 and start >= len(items):
            return None
        window = items[start : start + EPISODES_PER_PAGE]
        episodes = await self._episodes([(feed, item, view.image) for item in window])
        return self._page(
            "show.html",
            visitor,
            show=view,
            episodes=episodes,
            page=page,
            pages=max((len(items) + EPISODES_PER_PAGE - 1) // EPISODES_PER_PAGE, 1),
        )

    async def episode(self, feed: ServedFeed, item_id: str, visitor: Visitor) -> Response | None:
        """One episode with its show notes; None where there is none of that id."""
        item, image, texts, notes = None, None, Texts(), ""
        with suppress(P2prssError), trio.move_on_after(SHOW_SECONDS):
            image = await cover_of(feed)
            item = await feed.archive.item(item_id)
            if item is not None:
                texts = texts_of(await feed.archive.item_xml(item))
                notes = await _clean(texts.notes, pictures_of(feed, item.assets, visitor.root))
        if item is None:
            return None
        own = cover_among(feed, item.assets)
        view = await episode(feed, item, image=own or image, length=format_length(texts.seconds))
        show = self._bare(feed, visitor)
        return self._page("episode.html", visitor, show=show, episode=view, notes=notes)

    def add(
        self, visitor: Visitor, *, status: int = 200, source: str = "", latest: str = "3", error: str = ""
    ) -> Response:
        """The form that adds a show."""
        texts = {"source": source, "latest": latest, "error": sentence(error, 600)}
        return self._page("add.html", visitor, status=status, **texts)

    def offer(self, visitor: Visitor, source: str, latest: str) -> Response:
        """The question whether a feed that names no key is to be published from here."""
        shown, site = display_text(redact(source)), display_host(host_of(source))
        return self._page("publish.html", visitor, source=source, shown=shown, site=site, latest=latest)

    def removal(self, feed: ServedFeed, visitor: Visitor) -> Response:
        """The question whether a show is really to be removed."""
        return self._page("remove.html", visitor, show=self._bare(feed, visitor))

    def welcome(self, visitor: Visitor) -> Response:
        """A page that goes on to the first one."""
        return self._page("welcome.html", visitor)

    def refusal(self, visitor: Visitor, status: int, text: str, title: str = "This was not done") -> Response:
        """Why something was not done; in the text, commands stand between backticks."""
        return self._page("refused.html", visitor, status=status, text=text, title=title)

    def qr(self, feed: ServedFeed, base_url: str, wanted: str) -> Response | None:
        """A QR code as SVG: of the ``link`` for others like us, of the ``feed`` or ``lan`` address."""
        state = self._actions.state(feed.key) if self._actions is not None else None
        view = bare_show(feed, base_url, state)
        text = {"link": view.link or f"p2prss://{view.key}", "feed": view.feed_url, "lan": view.lan_url}.get(
            wanted
        )
        if not text or len(text) > MAX_QR_LENGTH:
            return None
        headers = {"content-security-policy": SANDBOX_POLICY, "cache-control": "no-cache"}
        return Response(qr_svg(text), headers=headers, media_type="image/svg+xml")

    def static(self, name: str, version: str, if_none_match: str | None) -> Response | None:
        """A file the page needs, for good under the address of its version; None where there is none such."""
        if name not in _STATIC_TYPES:
            return None
        body, etag = _static_file(name)
        caching = IMMUTABLE if _static_versions()[name].endswith(f"?v={version}") else "no-cache"
        if if_none_match_hits(if_none_match, etag):
            return not_modified(etag, cache_control=caching)
        return Response(
            body, headers={"content-type": _STATIC_TYPES[name], "etag": etag, "cache-control": caching}
        )

    @contextmanager
    def _looking(self, views: list[ShowView], place: int) -> Iterator[None]:
        """What cannot be had now stays open; what cannot be read at all is told."""
        try:
            yield
        except NOT_NOW:
            pass
        except P2prssError as error:
            views[place] = replace(views[place], unreadable=sentence(f"it cannot be read: {error}"))

    def missing(self, visitor: Visitor, status: int) -> Response:
        """What stands at an address where nothing is, or nothing yet."""
        return self._page("missing.html", visitor, status=status, starting=status == 503)

    def _bare(self, feed: ServedFeed, visitor: Visitor) -> ShowView:
        state = self._actions.state(feed.key) if self._actions is not None else None
        return bare_show(feed, visitor.base_url, state)

    async def _disk(self) -> Mapping[str, str] | None:
        if self._actions is None:
            return None
        use: DiskUse = await self._actions.disk()
        return {"used": format_bytes(use.used_bytes), "free": format_bytes(use.free_bytes)}

    async def _episodes(
        self, wanted: Sequence[tuple[ServedFeed, ArchivedItem, str | None]]
    ) -> Sequence[EpisodeView]:
        """Views of episodes, with the beginning of their notes where these are here in time."""
        views = [await episode(feed, item, image=image) for feed, item, image in wanted]

        async def fill(place: int, feed: ServedFeed, item: ArchivedItem) -> None:
            with suppress(P2prssError), trio.move_on_after(NOTES_SECONDS):
                texts = texts_of(await feed.archive.item_xml(item))
                length = format_length(texts.seconds)
                short = display_text(await trio.to_thread.run_sync(excerpt, texts.notes), 400)
                views[place] = replace(views[place], excerpt=short, length=length)

        async with trio.open_nursery() as nursery:
            for place, (feed, item, _) in enumerate(wanted):
                nursery.start_soon(fill, place, feed, item)
        return views

    def _page(self, template: str, visitor: Visitor, *, status: int = 200, **values: object) -> Response:
        html = (
            _templates()
            .get_template(template)
            .render(
                root=visitor.root,
                visitor=visitor,
                static=_static_versions(),
                honest_line=HONEST_LINE,
                **values,
            )
        )
        # Not compressed: beside a form's secret value stands what was typed, and lengths would tell.
        headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-store"}
        return Response(html, status, headers=headers, media_type="text/html")


async def _clean(notes: str, pictures: Mapping[str, str]) -> str:
    return await trio.to_thread.run_sync(partial(clean_notes, notes, pictures))


def _day_of(withdrawn: datetime | None) -> str:
    return format_date(withdrawn) if withdrawn is not None else ""


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


@cache
def _static_versions() -> Mapping[str, str]:
    """The URL of each static file with its version in it, so that no old copy is used."""
    return {name: f"static/{name}?v={json.loads(_static_file(name)[1])[:8]}" for name in _STATIC_TYPES}
