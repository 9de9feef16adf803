"""From the parts of a URL to the file it names.

Nothing of a URL ever becomes a path: it is compared with what the archive lists, and only paths of
the archive's own shape are opened in the drive.
"""

import re
from functools import partial
from typing import Final

from p2prss.errors import UsageError
from p2prss.feed.archive.records import Asset
from p2prss.serve.delivery import delivery
from p2prss.serve.library import ServedFeed
from p2prss.serve.media import Media
from p2prss.serve.urls import capture_stem, captures, enclosures, stored_name

_ITEM_ID: Final = re.compile(r"[0-9a-f]{16}")
_NUMBER: Final = re.compile(r"[1-9][0-9]?")
_EPISODE_NAME: Final = re.compile(r"([0-9a-f-]{1,40})\.[A-Za-z0-9]{1,8}")
_ASSET_NAME: Final = re.compile(r"([0-9a-f]{64})\.[A-Za-z0-9]{1,8}")


async def find_episode(feed: ServedFeed, item_id: str, number: str, name: str) -> Media | None:
    """The enclosure of an item by its number from 1; None where the URL is none of ours.

    The extension may be any. Of an enclosure that was captured again, the older captures are found as well.
    """
    found = _EPISODE_NAME.fullmatch(name)
    if not (found and _ITEM_ID.fullmatch(item_id) and _NUMBER.fullmatch(number)):
        return None
    item = await feed.archive.item(item_id)
    if item is None or not 0 < int(number) <= len(enclosures(item)):
        return None
    for asset in captures(item, int(number)):
        if found[1] == capture_stem(item, int(number), asset):
            return await _media(feed, asset)
    return None


async def find_asset(feed: ServedFeed, name: str) -> Media | None:
    """A captured file of the channel or an item by its content; None where the feed lists none such."""
    found = _ASSET_NAME.fullmatch(name)
    if found is None:
        return None
    info = await feed.archive.info()
    for asset in info.channel_assets:
        if (stored_name(asset) or ("",))[0] == found[1]:
            return await _media(feed, asset)
    for item in await feed.archive.items():
        for asset in item.assets:
            if asset.path is not None and found[1] in asset.path and stored_name(asset) is not None:
                return await _media(feed, asset)
    return None


async def _media(feed: ServedFeed, asset: Asset) -> Media | None:
    """What is stored for an asset; None while nothing is.

    The drive's own entry says how many bytes there are: the record beside it may say anything.
    """
    stored = stored_name(asset)
    if stored is None or asset.path is None:
        return None
    try:
        byte_length = await feed.drive.size(asset.path)
    except UsageError:
        return None
    sha256, extension = stored
    return Media(
        sha256, byte_length, delivery(asset.mime_type, extension), partial(feed.drive.read, asset.path)
    )
