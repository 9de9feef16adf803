"""Which captures an item keeps when its origin names its files anew; pure.

The first whole capture of an enclosure is canonical: hosts that insert advertisements send other
bytes each time, addresses grow tokens and trackers, and an app must find the same episode under the
same URL for ever. So a capture belongs to an enclosure by its number, not by its address.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec

from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.model import MAX_ASSETS, Role

MAX_RECAPTURES: Final = 8  # further captures of one item's enclosures that its record names
ANOTHER_EPISODE_SECONDS: Final = 86_400  # by which the date of another episode under a guid differs at least

NOISE: Final = frozenset(
    {
        *("_", "cachebust", "cachebuster", "modified", "nocache", "rand", "timestamp", "ts", "updated"),
        *("aid", "awcollectionid", "awepisodeid", "dest-id", "feed", "played_on", "referrer"),
        *("request_event_id", "expires", "hdnea", "hdnts", "key-pair-id", "policy", "sig", "sign"),
        *("signature", "token", "verify"),
    }
)
"""Parameters of an address, in small letters, that tell when, where and by whom a file is asked for, and
not which one; so do those of ``_NOISE``."""
_NOISE: Final = re.compile(r"utm_.*|x-amz-.*|.*[_-]?token|aw_.*")


@dataclass(frozen=True, slots=True)
class Named:
    """An enclosure as the origin names it now; ``is_revised``: another path or date than when captured."""

    item_id: str
    number: int  # from 1
    byte_length: int | None  # announced
    is_revised: bool


def address_key(url: str) -> str:
    """What two addresses of one file have in common: all but scheme, user, standard port and fragment."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    if parts.scheme not in ("http", "https", ""):
        return url
    place = host if port in (None, 80, 443) else f"{host}:{port}"
    return f"{place}/{parts.path.lstrip('/')}?{parts.query}"


def file_key(url: str) -> str:
    """What stays of an address without ``www.`` and noise, too; a file's only within an item, for
    somebody's token may be what names it."""
    path, _, query = address_key(url).removeprefix("www.").partition("?")
    kept = [one for one in query.split("&") if one and not _is_noise(one.partition("=")[0].lower())]
    return f"{path}?{'&'.join(sorted(kept))}"


def _is_noise(name: str) -> bool:
    return name in NOISE or _NOISE.fullmatch(name) is not None


def audio_key(url: str) -> str:
    """The same for an enclosure, that may move to another host or behind another chain of trackers.

    Returns: the path behind its last part, but the very last, with a dot in it (the host of
    ``/redirect.mp3/chrt.fm/track/1/media.example/one.mp3``), and what the query has besides noise.
    """
    path, _, query = file_key(url).partition("?")
    parts = path.split("/")
    start = max((place for place, part in enumerate(parts[:-1]) if "." in part), default=0)
    return "/".join(parts[start + 1 :]) + (f"?{query}" if query else "")


def is_extra(asset: Asset) -> bool:
    """Whether it is a further capture, that no XML names."""
    return asset.number is not None


def pin(
    item_id: str, named: Sequence[Asset], old: ArchivedItem, published: datetime | None
) -> tuple[tuple[Asset, ...], list[Named]]:
    """Give the files that an item names now the captures that it has.

    An enclosure keeps its capture, also under another address, unless path and date have both changed:
    then the guid was used again for another episode, whose file is to be captured, and the older
    capture is kept as superseded. So it is where another file of a local source is named, for there no
    advertisements are inserted. Other files keep theirs where only noise in their address changed.

    Args: named: as the XML has them now, captured ones found by their address; old: the item until now.
    Returns: the item's assets, further captures last; what may have to be captured again.
    """
    addresses = {one.url for one in named}
    before = [one for one in old.assets if one.role == Role.ENCLOSURE]
    by_key = {(one.role, file_key(one.url)): one for one in old.assets if one.path and not is_extra(one)}
    extras = [one for one in old.assets if is_extra(one)]
    assets: list[Asset] = []
    revisions: list[Named] = []
    is_other_date = published != old.published
    number = 0
    for asset in named:
        if asset.role != Role.ENCLOSURE:
            known = by_key.get((asset.role, file_key(asset.url)))
            assets.append(_under(asset.url, known) if asset.path is None and known else asset)
            continue
        number += 1
        capture = before[number - 1] if number <= len(before) else None
        if capture is None or capture.path is None or (capture.url in addresses and capture.url != asset.url):
            assets.append(asset)
            continue
        is_other_file = audio_key(asset.url) != audio_key(capture.url)
        is_local = not asset.url.startswith(("http://", "https://"))  # the publisher's own folder
        if is_other_file and (is_local or _is_another_episode(old.published, published)):
            assets.append(asset)
            extras.append(superseded(capture, number))
            continue
        assets.append(_under(asset.url, capture))
        revisions.append(Named(item_id, number, None, is_other_file or is_other_date))
    return with_extras(assets, extras), revisions


def superseded(capture: Asset, number: int) -> Asset:
    """A capture that another one of the same enclosure has replaced."""
    return msgspec.structs.replace(capture, role=Role.SUPERSEDED.value, number=number)


def with_extras(assets: Sequence[Asset], extras: Sequence[Asset]) -> tuple[Asset, ...]:
    """All assets of an item, within the bounds: of too many further captures the first of each number and
    the latest stay, since the first is what apps know by the enclosure's URL."""
    kept = list(extras)
    while len(kept) > MAX_RECAPTURES:
        firsts = {id(next(one for one in kept if one.number == extra.number)) for extra in kept}
        kept.remove(next((one for one in kept if id(one) not in firsts), kept[-1]))
    return (*list(assets)[: MAX_ASSETS - len(kept)], *kept)


def without_twins(assets: Sequence[Asset]) -> tuple[Asset, ...]:
    """The assets of an item without further captures that have the bytes of their enclosure."""
    enclosures = [one.sha256 for one in assets if one.role == Role.ENCLOSURE]
    return tuple(
        one
        for one in assets
        if one.number is None or one.sha256 not in enclosures[one.number - 1 : one.number]
    )


def _under(url: str, capture: Asset) -> Asset:
    return msgspec.structs.replace(capture, url=url)


def _is_another_episode(old: datetime | None, new: datetime | None) -> bool:
    if old is None or new is None:
        return False
    return abs(new - old) >= timedelta(seconds=ANOTHER_EPISODE_SECONDS)
