"""RSS 1.0 and 0.90 (RDF) -> RSS 2.0: the same elements in another frame.

Elements of RSS itself lose their namespace and move into the channel; those of other namespaces,
attributes, comments and order stay. What is written anew: ``<enclosure>`` beside ``enc:enclosure``;
``<guid>``, and for the channel ``dc:identifier``, in the place of ``rdf:about``. What goes: ``<items>``,
the list of what follows anyway.
Source: web.resource.org/rss/1.0/spec; the enclosure module mod_enclosure.
"""

from copy import deepcopy
from typing import Final

from lxml import etree

from p2prss.feed.document.names import NAMESPACES, child_named, is_rss_namespace, name_of, text_of
from p2prss.feed.document.rss_document import add, add_enclosure, finish, new_channel

_RDF: Final = f"{{{NAMESPACES['rdf']}}}"
_MOVED: Final = frozenset({"image", "textinput", "textInput"})  # a mere reference in the channel


def from_rdf(root: etree._Element) -> etree._Element | None:
    """The document of an ``<rdf:RDF>`` -> RSS document; None where it has no channel."""
    source = child_named(root, "channel")
    if source is None:
        return None
    channel = new_channel({prefix: uri for prefix, uri in root.nsmap.items() if prefix})
    for name, value in source.attrib.items():
        if name != f"{_RDF}about":
            channel.set(name, value)
    present = {name_of(one) for one in root}
    for child in source:
        name = name_of(child)
        if name == "items" or (name in _MOVED and name in present and not len(child)):
            continue
        _move(channel, child)
    about = source.get(f"{_RDF}about", "").strip()
    if about not in (text_of(one).strip() for one in channel):
        add(channel, "dc:identifier", about)
    for child in root:
        if child is source:
            continue
        moved = _move(channel, child)
        if moved.tag == "item":
            _finish_item(moved)
    return finish(channel)


def _move(channel: etree._Element, child: etree._Element) -> etree._Element:
    """Append a copy whose elements of RSS have no namespace any more."""
    copy = deepcopy(child)
    copy.tail = "\n"
    channel.append(copy)
    for one in copy.iter(etree.Element):
        name = etree.QName(one)
        if is_rss_namespace(name.namespace or ""):
            one.tag = name.localname
    return copy


def _finish_item(item: etree._Element) -> None:
    names = [name_of(child) for child in item]
    if "enclosure" not in names:
        for one in [child for child in item if name_of(child) == "enc:enclosure"]:
            given = {etree.QName(str(key)).localname: str(value) for key, value in one.attrib.items()}
            url = given.get("resource") or given.get("url") or ""
            add_enclosure(item, url, given.get("type", ""), given.get("length", ""))
    guid = child_named(item, "guid")
    if (guid is None or not text_of(guid).strip()) and (about := item.get(f"{_RDF}about")):
        if guid is None:
            add(item, "guid", about, isPermaLink="false")
        else:
            guid.text = about
    if guid is None or text_of(guid) == item.get(f"{_RDF}about"):
        item.attrib.pop(f"{_RDF}about", "")  # the guid says it
