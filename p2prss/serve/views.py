"""What the pages show of shows and episodes: texts that are ready to be written.

All words are strangers': the templates escape them, and ``display_text`` takes out what could mislead
a reader of the page (characters that turn the direction of writing, and texts without an end).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from p2prss.crypto.key_text import format_key
from p2prss.errors import P2prssError
from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.model import Role
from p2prss.serve.actions import FeedState, NamedBy, Work
from p2prss.serve.delivery import delivery
from p2prss.serve.library import ServedFeed
from p2prss.serve.subscribe_links import SubscribeLink, subscribe_links
from p2prss.serve.urls import asset_path, enclosures, episode_path, feed_path, stored_name
from p2prss.serve.xml_text import as_xml_text
from p2prss.units import GB, KB, MB

MAX_TITLE_LENGTH: Final = 200  # characters that a page shows of a title
TINTS: Final = 6  # colours of covers that are not here

_RASTER: Final = frozenset({"image/avif", "image/gif", "image/jpeg", "image/png", "image/webp"})
_MISLEADING: Final = re.compile(
    "[\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c\ufeff\u0000-\u001f\u007f-\u009f]+"
)
_PLAIN_WORD: Final = re.compile(r"[a-z]+(?=[ ,;]|: )")  # and no name of a command or a host
_ROLES: Final = {"publish": "Published from here", "follow": "Followed", "seed": "Kept for others"}


@dataclass(frozen=True, slots=True)
class EpisodeView:
    """An episode; paths are relative to the server's root, without a slash in front.

    ``media`` is None while nothing is captured; ``here`` is "all", "part" or "none" of its bytes.
    """

    item_id: str
    title: str
    date: str  # ISO 8601
    date_text: str
    page: str
    show_title: str = ""
    show_page: str = ""
    image: str | None = None
    tint: int = 0
    initial: str = ""
    media: str | None = None
    mime_type: str = ""
    size: str = ""
    here: str = "none"
    percent: int = 0
    length: str = ""
    excerpt: str = ""
    removed: bool = False

    @property
    def is_video(self) -> bool:
        """Whether the player at the foot of the page is of no use."""
        return self.mime_type.startswith("video/")


@dataclass(frozen=True, slots=True)
class ShowView:
    """A show; ``item_count`` is None while its list cannot be had."""

    key: str
    slug: str
    title: str
    feed_url: str
    page: str
    peers: str
    tint: int
    initial: str
    work: Work | None = None
    work_text: str = ""
    problem: str | None = None
    named_by: NamedBy | None = None
    role: str = ""
    link: str = ""
    lan_url: str = ""
    app_links: Sequence[SubscribeLink] = ()
    stored: str = ""
    image: str | None = None
    item_count: int | None = None
    unreadable: str = ""  # why nothing of it is shown
    withdrawn: str = ""  # the day when its publisher took it back
    quiet: str = ""  # why it is announced nowhere
    author: str = ""
    notes: str = ""  # safe HTML


def bare_show(feed: ServedFeed, base_url: str, state: FeedState | None) -> ShowView:
    """What is known of a show without reading anything."""
    key = format_key(feed.key)
    title = display_text(feed.title)
    known = bool(title) and title != key
    work = state.work if state else None
    named_by = state.named_by if state else None
    return ShowView(
        key=key,
        slug=feed.slug,
        title=title if known else "A show that is not here yet",
        feed_url=f"{base_url}{feed_path(feed.key)}feed.xml",
        page=f"shows/{key}",
        peers=count(feed.peers, "peer"),
        tint=feed.key[0] % TINTS,
        initial=title[:1].upper() if known else "?",
        work=work,
        work_text=work_text(work),
        problem=sentence(state.problem) if state and state.problem else None,
        quiet=sentence(state.quiet) if state and state.quiet else "",
        named_by=replace(named_by, site=display_host(named_by.site)) if named_by else None,
        role=_ROLES.get(state.role, "") if state else "",
        link=state.link if state else "",
        lan_url=(state.lan_url or "") if state else "",
        app_links=subscribe_links(state.lan_url) if state and state.lan_url else (),
        stored=format_bytes(state.stored_bytes) if state and state.stored_bytes else "",
    )


async def cover_of(feed: ServedFeed) -> str | None:
    """The show's picture, if it is here and one that no browser runs."""
    info = await feed.archive.info()
    return cover_among(feed, info.channel_assets)


def cover_among(feed: ServedFeed, assets: Sequence[Asset]) -> str | None:
    """The first captured picture of the kind that is only a picture."""
    images = (asset for asset in assets if asset.role == Role.IMAGE and is_raster(asset))
    return next((path.lstrip("/") for asset in images if (path := asset_path(feed.key, asset))), None)


def is_raster(asset: Asset) -> bool:
    """Whether a captured file is served as a picture of pixels."""
    stored = stored_name(asset)
    return stored is not None and delivery(asset.mime_type, stored[1]).mime_type in _RASTER


def pictures_of(feed: ServedFeed, assets: Sequence[Asset], root: str) -> Mapping[str, str]:
    """The pictures that show notes may show: original address -> our own."""
    return {
        asset.url: root + path.lstrip("/")
        for asset in assets
        if asset.role in (Role.INLINE, Role.IMAGE) and is_raster(asset)
        if (path := asset_path(feed.key, asset))
    }


async def episode(
    feed: ServedFeed, item: ArchivedItem, *, image: str | None = None, length: str = ""
) -> EpisodeView:
    """An episode with what is here of it; may wait for the drive's entries."""
    date = item.published or item.first_seen
    show, key = display_text(feed.title), format_key(feed.key)
    view = EpisodeView(
        item_id=item.item_id,
        title=display_text(item.title) or "Untitled episode",
        date=date.date().isoformat(),
        date_text=format_date(date),
        page=f"shows/{key}/{item.item_id}",
        show_title=show,
        show_page=f"shows/{key}",
        image=image,
        tint=feed.key[0] % TINTS,
        initial=show[:1].upper(),
        length=length,
        removed=item.removed_at is not None,
    )
    for number, asset in enumerate(enclosures(item), 1):
        path, stored = episode_path(feed.key, item, number, asset), stored_name(asset)
        if path and stored and asset.path:
            blocks, total = await _held(feed, asset.path)
            return replace(
                view,
                media=path.lstrip("/"),
                mime_type=delivery(asset.mime_type, stored[1]).mime_type,
                size=format_bytes(asset.byte_length or 0),
                here="all" if blocks == total else "part" if blocks else "none",
                percent=100 * blocks // max(total, 1),
            )
    return view


async def _held(feed: ServedFeed, path: str) -> tuple[int, int]:
    try:
        held = await feed.drive.held(path)
    except P2prssError:
        return 0, 1
    return held.blocks, held.total


def display_text(text: str | None, limit: int = MAX_TITLE_LENGTH) -> str:
    """A stranger's text on one line, in its own direction, with an end."""
    line = " ".join(_MISLEADING.sub(" ", as_xml_text(text)).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def display_host(host: str) -> str:
    """A host as it is asked for, in ASCII: letters of other scripts look like ours."""
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return display_text(host).encode("ascii", "backslashreplace").decode("ascii")


def sentence(text: str, limit: int = 400) -> str:
    """A message of the program as a page shows it: on one line, with a capital where it is a plain word."""
    line = display_text(text, limit)
    return line[:1].upper() + line[1:] if _PLAIN_WORD.match(line) else line


def work_text(work: Work | None) -> str:
    """``Fetching 3.2 MB of 12.0 MB``."""
    if work is None:
        return ""
    if work.unit != "bytes":
        return f"Fetching {work.done} of {work.total} {work.unit}" if work.total else "Fetching"
    total = f" of {format_bytes(work.total)}" if work.total else ""
    return f"Fetching {format_bytes(work.done)}{total}"


def format_bytes(size: int) -> str:
    """``1234567`` -> ``1.2 MB``, ``12345678`` -> ``12 MB``."""
    for unit, name in ((GB, "GB"), (MB, "MB"), (KB, "kB")):
        if size >= unit:
            number = size / unit
            return f"{number:.1f} {name}" if number < 9.95 else f"{number:.0f} {name}"
    return f"{size} B"


def format_date(date: datetime) -> str:
    """``31 Jan 2024``; the page is in English wherever the program runs."""
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"


def format_length(seconds: int | None) -> str:
    """``1 h 2 min``."""
    if not seconds:
        return ""
    minutes = max(round(seconds / 60), 1)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """``no peers``, ``1 peer``, ``2 peers``."""
    return f"{number or 'no'} {noun}" + ("" if number == 1 else "s")


_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
