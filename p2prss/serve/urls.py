"""The URLs we hand out, and back; pure.

An app remembers an episode by its URL, and many name the downloaded file after its last part. So an
episode's URL is made only of what never changes: the feed's key, the item's id and date when it was
first seen, and the number of the enclosure. A corrected title leaves it as it is.
"""

import re
from collections.abc import Sequence
from typing import Final

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.model import Role

_ITEM_PATH: Final = re.compile(r"/items/(\d{4})(\d{2})(\d{2})T\d{6}Z-[0-9a-f]{16}\.xml", re.ASCII)
_MEDIA_PATH: Final = re.compile(r"/media/([0-9a-f]{2})/((?=\1)[0-9a-f]{64})\.([a-z0-9]{1,8})")


def feed_path(key: CoreKey) -> str:
    """The folder of a feed's URLs, with a slash at the end."""
    return f"/feeds/{format_key(key)}/"


def enclosures(item: ArchivedItem) -> Sequence[Asset]:
    """The files that are the episode itself, in their order; number 1 is the first, captured or not."""
    return [asset for asset in item.assets if asset.role == Role.ENCLOSURE]


def episode_stem(item: ArchivedItem, number: int) -> str:
    """The file name of an enclosure without its extension: ``2024-01-31-0123456789abcdef``."""
    found = _ITEM_PATH.fullmatch(item.path)
    date = "-".join(found.groups()) + "-" if found else ""
    return f"{date}{item.item_id}" + (f"-{number}" if number > 1 else "")


def captures(item: ArchivedItem, number: int) -> Sequence[Asset]:
    """All captures of an enclosure, those that were superseded first, oldest first."""
    listed = enclosures(item)
    further = [asset for asset in item.assets if asset.number == number]
    older = [asset for asset in further if asset.role == Role.SUPERSEDED]
    beside = [asset for asset in further if asset.role != Role.SUPERSEDED]
    return [*older, *listed[number - 1 : number], *beside]


def capture_stem(item: ArchivedItem, number: int, asset: Asset) -> str:
    """The file name of a capture without its extension: that of the enclosure for the first one, and for
    others it has the first 8 digits of their SHA-256 behind it. So no URL ever changes its bytes."""
    stem, stored = episode_stem(item, number), stored_name(asset)
    if asset == captures(item, number)[0] or stored is None:
        return stem
    return f"{stem}-{stored[0][:8]}"


def episode_path(key: CoreKey, item: ArchivedItem, number: int, asset: Asset) -> str | None:
    """The path of a captured enclosure's URL; None while it is not captured."""
    stored = stored_name(asset)
    if stored is None:
        return None
    return f"{feed_path(key)}episodes/{item.item_id}/{number}/{capture_stem(item, number, asset)}.{stored[1]}"


def asset_path(key: CoreKey, asset: Asset) -> str | None:
    """The path of a captured file's URL by its content; None while it is not captured."""
    stored = stored_name(asset)
    return None if stored is None else f"{feed_path(key)}assets/{stored[0]}.{stored[1]}"


def stored_name(asset: Asset) -> tuple[str, str] | None:
    """The SHA-256 (64 hex digits) and the extension of a captured file; None when it is not captured.

    A path that is not one of feed format 1 counts as not captured: nothing else is ever opened.
    """
    found = _MEDIA_PATH.fullmatch(asset.path or "")
    return None if found is None else (found[2], found[3])
