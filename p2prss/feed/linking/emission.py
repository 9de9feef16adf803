"""The ordinary feed of a publisher, with what leads apps from it to the swarm; pure.

Nothing of the feed is taken away or changed. Added are, for the whole feed, ``podcast:txt`` with the key,
and for each captured enclosure a ``podcast:alternateEnclosure`` with its places and its hash.
Source: podcast namespace, tags ``txt``, ``alternateEnclosure``, ``source``, ``integrity``; spec/08-feeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError
from p2prss.feed.document.names import PODCAST, child_named, plain_name
from p2prss.feed.document.parse import parse_xml
from p2prss.feed.document.render import Alternate, ItemSource, add_alternate, render_feed
from p2prss.feed.linking.rights import TXT_PURPOSE, read_rights


@dataclass(frozen=True, slots=True)
class EmittedItem:
    """An item as it is archived, and the places of its captured enclosures."""

    xml: bytes
    alternates: tuple[Alternate, ...] = ()


def emit_feed(channel_xml: bytes, items: Iterable[EmittedItem], key: CoreKey) -> bytes:
    """The feed to put where the origin's is.

    Args: channel_xml, items: as archived, in the order to list them; key: the feed's own.
    Returns: an RSS document in UTF-8. It is what it was when nothing is to be added, as when it was made
    from a feed that was made here.
    Raises: FeedFormatError when the XML is not what parsing makes.
    """
    sources = [ItemSource(_with_alternates(item)) for item in items]
    return render_feed(_with_key(channel_xml, key), sources)


def _with_key(channel_xml: bytes, key: CoreKey) -> bytes:
    """The channel with the proof that the key is its owner's."""
    if key in read_rights(channel_xml).keys:
        return channel_xml
    root = parse_xml(channel_xml)
    channel = child_named(root, "channel")
    if channel is None:
        raise FeedFormatError("the archived feed has no channel")
    proof = etree.Element(f"{{{PODCAST}}}txt", {"purpose": TXT_PURPOSE}, nsmap={"podcast": PODCAST})
    proof.text = format_key(key)
    proof.tail = channel.text or "\n"
    channel.insert(0, proof)
    return etree.tostring(root.getroottree(), encoding="UTF-8", xml_declaration=True)


def _with_alternates(emitted: EmittedItem) -> bytes:
    """The item with those of its alternates that it does not name already."""
    if not emitted.alternates:
        return emitted.xml
    item = parse_xml(emitted.xml)
    named = {
        source.get("uri", "")
        for source in item.iter("{*}source")
        if plain_name(source.tag) == "podcast:source"
    }
    for alternate in emitted.alternates:
        if named.isdisjoint(alternate.uris):
            add_alternate(item, alternate)
    return etree.tostring(item, encoding="utf-8")
