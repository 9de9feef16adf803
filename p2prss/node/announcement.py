"""The feed to put where a publisher's own is: with it ordinary hosting advertises the swarm."""

from collections.abc import Sequence

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import UsageError
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.document.names import is_absolute
from p2prss.feed.document.render import Alternate, Replacement
from p2prss.feed.linking.emission import EmittedChannel, EmittedItem, emit_feed
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import open_for_reading
from p2prss.node.open_feed import OpenFeed
from p2prss.serve.urls import asset_path, enclosures, episode_path


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A feed as it is to be put online; ``advertised`` enclosures have a place in the swarm, and
    ``relative`` ones an address that means nothing on the web."""

    key: str
    title: str
    items: int
    advertised: int
    relative: int
    xml: str


async def announce_feed(
    home: HomePaths, text: str, gateway: str | None, at: str | None = None
) -> Announcement:
    """Make it from what is stored here.

    Args: gateway: the address of an HTTP server of ours that everybody reaches, for those without p2prss;
    at: where the feed will stand.
    Raises: UsageError for a feed that is not here, or not whole; FeedFormatError; StorageError.
    """
    if gateway is not None and not gateway.startswith(("https://", "http://")):
        raise UsageError(f"--gateway {gateway!r}: give the address of a web server, https://…")
    if at is not None and not at.startswith(("https://", "http://")):
        raise UsageError(f"--at {at!r}: give the address that the feed will have, https://…")
    async with open_for_reading(home) as (saved, opener, _):
        feed = await opener.open(saved.find(text), eager=False)
        if not feed.db.length:
            raise UsageError(f"nothing of {feed.title} has arrived yet")
        archive = feed.archive
        listed = list(in_origin_order(item for item in await archive.items() if item.removed_at is None))
        info = await archive.info()
        items = [
            EmittedItem(
                await archive.item_xml(item),
                _alternates(feed, item, gateway),
                _addresses(feed.key, item.assets, gateway, item),
                item.guid,
            )
            for item in listed
        ]
        key = format_key(feed.key)
        channel = EmittedChannel(
            await archive.channel(),
            _addresses(feed.key, info.channel_assets, gateway),
            {f"hyper://{key}/": f"{gateway.rstrip('/')}/shows/{key}"} if gateway is not None else {},
            at or "",
        )
        xml = await trio.to_thread.run_sync(emit_feed, channel, items, feed.key)
        relative = [
            asset
            for item, emitted in zip(listed, items, strict=True)
            for asset in enclosures(item)
            if not is_absolute(asset.url) and asset.url not in emitted.addresses
        ]
        return Announcement(
            key=key,
            title=feed.title,
            items=len(items),
            advertised=sum(len(item.alternates) for item in items),
            relative=len(relative),
            xml=xml.decode(),
        )


def _alternates(feed: OpenFeed, item: ArchivedItem, gateway: str | None) -> tuple[Alternate, ...]:
    found = []
    for number, asset in enumerate(enclosures(item), 1):
        path = episode_path(feed.key, item, number, asset)
        if path is None or asset.sha256 is None or asset.byte_length is None:
            continue
        uris = [f"hyper://{format_key(feed.key)}{asset.path}"]
        if gateway is not None:
            uris.append(gateway.rstrip("/") + path)
        found.append(Alternate(tuple(uris), asset.byte_length, asset.mime_type or "", asset.sha256))
    return tuple(found)


def _addresses(
    key: CoreKey, assets: Sequence[Asset], gateway: str | None, item: ArchivedItem | None = None
) -> dict[str, Replacement]:
    """What a gateway calls captured files that have no address on the web."""
    if gateway is None:
        return {}
    found = {}
    files = list(enclosures(item)) if item is not None else []
    for asset in assets:
        number = files.index(asset) + 1 if asset in files else 0
        path = episode_path(key, item, number, asset) if item and number else asset_path(key, asset)
        if path is not None and asset.number is None and not is_absolute(asset.url):
            url = gateway.rstrip("/") + path
            found[asset.url] = Replacement(url, asset.byte_length, asset.mime_type)
    return found
