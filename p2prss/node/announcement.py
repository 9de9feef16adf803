"""The feed to put where a publisher's own is: with it ordinary hosting advertises the swarm."""

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import UsageError
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.records import ArchivedItem
from p2prss.feed.document.render import Alternate
from p2prss.feed.linking.emission import EmittedItem, emit_feed
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import open_for_reading
from p2prss.node.open_feed import OpenFeed
from p2prss.serve.urls import enclosures, episode_path


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A feed as it is to be put online; ``advertised`` enclosures have a place in the swarm."""

    key: str
    title: str
    items: int
    advertised: int
    xml: str


async def announce_feed(home: HomePaths, text: str, gateway: str | None) -> Announcement:
    """Make it from what is stored here.

    Args: gateway: the address of an HTTP server of ours that everybody reaches, for those without p2prss.
    Raises: UsageError for a feed that is not here, or not whole; FeedFormatError; StorageError.
    """
    if gateway is not None and not gateway.startswith(("https://", "http://")):
        raise UsageError(f"--gateway {gateway!r}: give the address of a web server, https://…")
    async with open_for_reading(home) as (saved, opener, _):
        feed = await opener.open(saved.find(text), eager=False)
        if not feed.db.length:
            raise UsageError(f"nothing of {feed.title} has arrived yet")
        archive = feed.archive
        listed = in_origin_order(item for item in await archive.items() if item.removed_at is None)
        items = [
            EmittedItem(await archive.item_xml(item), _alternates(feed, item, gateway)) for item in listed
        ]
        channel = await archive.channel()
        xml = await trio.to_thread.run_sync(emit_feed, channel, items, feed.key)
        return Announcement(
            key=format_key(feed.key),
            title=feed.title,
            items=len(items),
            advertised=sum(len(item.alternates) for item in items),
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
