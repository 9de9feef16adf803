"""The ordinary feed of a publisher, with what leads apps from it to the swarm; pure.

Nothing of the feed is taken away or changed, but for addresses that no app could use. Added are, for the
whole feed, ``podcast:txt`` with the key, and for each captured enclosure a ``podcast:alternateEnclosure``
with its places and its hash.
Source: podcast namespace, tags ``txt``, ``alternateEnclosure``, ``source``, ``integrity``; spec/08-feeds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lxml import etree

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError
from p2prss.feed.document.names import ATOM, PODCAST, child_named, name_of, plain_name
from p2prss.feed.document.parse import parse_xml
from p2prss.feed.document.render import (
    Alternate,
    ItemSource,
    Replacement,
    add_alternate,
    render_feed,
    rewrite_addresses,
)
from p2prss.feed.linking.rights import TXT_PURPOSE, read_rights


@dataclass(frozen=True, slots=True)
class EmittedItem:
    """An item as it is archived, and the places of its captured enclosures.

    ``addresses``: of captured files, as they are written -> what to write for them; ``guid`` tells its place.
    """

    xml: bytes
    alternates: tuple[Alternate, ...] = ()
    addresses: Mapping[str, Replacement] = field(default_factory=dict)
    guid: str = ""


@dataclass(frozen=True, slots=True)
class EmittedChannel:
    """The channel as it is archived.

    ``links``: address in its ``link`` -> what to write for it; ``feed_url``: what to write as the feed's own
    address, if it is known.
    """

    xml: bytes
    addresses: Mapping[str, Replacement] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    feed_url: str = ""


def emit_feed(channel: EmittedChannel, items: Iterable[EmittedItem], key: CoreKey) -> bytes:
    """The feed to put where the origin's is.

    Args: channel, items: as archived, in the order to list them; key: the feed's own.
    Returns: an RSS document in UTF-8. It is what it was when nothing is to be added, as when it was made
    from a feed that was made here.
    Raises: FeedFormatError when the XML is not what parsing makes.
    """
    sources = [ItemSource(_emitted_item(item), item.guid) for item in items]
    return render_feed(_emitted_channel(channel, key), sources)


def _emitted_channel(emitted: EmittedChannel, key: CoreKey) -> bytes:
    """The channel with the proof that the key is its owner's."""
    has_key = key in read_rights(emitted.xml).keys
    if has_key and not emitted.addresses and not emitted.links and not emitted.feed_url:
        return emitted.xml
    root = parse_xml(emitted.xml)
    channel = child_named(root, "channel")
    if channel is None:
        raise FeedFormatError("the archived feed has no channel")
    if emitted.addresses:
        rewrite_addresses(channel, "", emitted.addresses)
    for child in channel:
        if name_of(child) == "link" and (child.text or "") in emitted.links:
            child.text = emitted.links[child.text or ""]
    if emitted.feed_url:
        _say_where(channel, emitted.feed_url)
    if not has_key:
        proof = etree.Element(f"{{{PODCAST}}}txt", {"purpose": TXT_PURPOSE}, nsmap={"podcast": PODCAST})
        proof.text = format_key(key)
        proof.tail = channel.text or "\n"
        channel.insert(0, proof)
    return etree.tostring(root.getroottree(), encoding="UTF-8", xml_declaration=True)


def _say_where(channel: etree._Element, feed_url: str) -> None:
    """Write the feed's own address into its ``atom:link rel="self"``, and add one where there is none."""
    for child in channel:
        if name_of(child) == "atom:link" and child.get("rel", "").strip().lower() == "self":
            child.set("href", feed_url)
            return
    given = {"rel": "self", "href": feed_url, "type": "application/rss+xml"}
    link = etree.Element(f"{{{ATOM}}}link", given, nsmap={"atom": ATOM})
    link.tail = channel.text or "\n"
    channel.insert(0, link)


def _emitted_item(emitted: EmittedItem) -> bytes:
    """The item with those of its alternates that it does not name already."""
    if not emitted.alternates and not emitted.addresses:
        return emitted.xml
    item = parse_xml(emitted.xml)
    if emitted.addresses:
        rewrite_addresses(item, "", emitted.addresses)
    named = {
        source.get("uri", "")
        for source in item.iter("{*}source")
        if plain_name(source.tag) == "podcast:source"
    }
    for alternate in emitted.alternates:
        if named.isdisjoint(alternate.uris):
            add_alternate(item, alternate)
    return etree.tostring(item, encoding="utf-8")
