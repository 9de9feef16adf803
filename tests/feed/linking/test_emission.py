"""The feed that a publisher puts in the place of their own."""

from lxml import etree

from p2prss.crypto.keys import CoreKey
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.linking.emission import EmittedChannel, EmittedItem, emit_feed


def test_what_stands_between_items_keeps_its_place() -> None:
    text = b"<rss><channel><item><guid>2</guid></item><x/><item><guid>1</guid></item><y/></channel></rss>"
    feed = parse_feed(text)
    items = [EmittedItem(one.xml, guid=one.guid) for one in feed.items]
    channel = etree.fromstring(emit_feed(EmittedChannel(feed.channel.xml), items, CoreKey(bytes(32))))[0]
    assert [one.findtext("guid") or one.tag for one in channel][-4:] == ["2", "x", "1", "y"]
