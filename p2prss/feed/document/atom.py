"""Atom 1.0 and 0.3 -> RSS, with nothing dropped.

What RSS has a word for is written with it. What it has none for, or would cut short (who wrote it with
their addresses, when it was updated, other links, rights, where an entry was taken from), stays as the
element of Atom that it was, beside those of other namespaces.
Source: RFC 4287; the Atom Syndication Format 0.3; the RSS 2.0 specification.
"""

import html
from base64 import b64decode
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Final

from lxml import etree

from p2prss.feed.document.dates import as_rfc2822
from p2prss.feed.document.names import XML, XML_BASE, child_named, text_of
from p2prss.feed.document.rss_document import (
    add,
    add_enclosure,
    add_image,
    finish,
    keep,
    legal,
    new_channel,
)

_LANG: Final = f"{{{XML}}}lang"
_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
_PUBLISHED: Final = ("published", "issued", "created")
_UPDATED: Final = ("updated", "modified")
_INLINE: Final = frozenset(
    {"text", "html", "xhtml", "text/plain", "text/html", "application/xhtml+xml", "text/x-markdown"}
)


def from_atom(root: etree._Element) -> etree._Element:
    """The document of a ``<feed>`` of either namespace, or of none -> RSS document."""
    others = {prefix: uri for prefix, uri in root.nsmap.items() if prefix}
    channel = new_channel(others)
    _copy_context(root, channel.getparent())
    _Feed(root, channel).write()
    before = [one for one in root.itersiblings(preceding=True) if not isinstance(one.tag, str)]
    rss = finish(channel)
    for node in before:
        rss.addprevious(deepcopy(node))
    return rss


class _Rewriter:
    """Writes the children of one element into another, in their order."""

    def __init__(self, source: etree._Element, target: etree._Element) -> None:
        self._source = source
        self._target = target
        self._namespace = etree.QName(source).namespace
        self._done: set[str] = set()
        self._link = self._best_link()

    def write(self) -> None:
        words: Mapping[str, Callable[[etree._Element], bool]] = self._words()
        for child in self._source:
            name = self._name(child)
            if not (name in words and words[name](child)):
                keep(self._target, [child])

    def _words(self) -> Mapping[str, Callable[[etree._Element], bool]]:
        """Atom's word -> what writes it in RSS, and says whether that says all."""
        raise NotImplementedError

    def _name(self, child: etree._Element) -> str:
        """The name of a child that is Atom's own, else nothing."""
        name = etree.QName(child) if isinstance(child.tag, str) else None
        return name.localname if name is not None and name.namespace == self._namespace else ""

    def _all(self, *names: str) -> list[etree._Element]:
        """Own children of these names, by the order of the names."""
        return [child for name in names for child in self._source if self._name(child) == name]

    def _has(self, name: str) -> bool:
        return child_named(self._source, name) is not None

    def _once(self, word: str) -> bool:
        """Whether it is the first time: RSS has each word once."""
        is_first = word not in self._done
        self._done.add(word)
        return is_first

    def _put(self, word: str, child: etree._Element, text: str, **attributes: str) -> bool:
        if not self._once(word):
            return False
        made = add(self._target, word, text, **attributes)
        if made is None:
            return False
        for context in (XML_BASE, _LANG):
            if value := child.get(context):
                made.set(context, value)
        return True

    def _title(self, child: etree._Element) -> bool:
        return self._put("title", child, _markup(child, escape=False))

    def _author(self, _: etree._Element) -> bool:
        """Names for the apps; the element itself has addresses as well, so it stays."""
        if self._once("author"):
            people = [self._person(one) for one in self._all("author")]
            if not self._has("itunes:author"):
                add(self._target, "itunes:author", ", ".join(name for name, _ in people if name))
            if people and (mail := people[0][1]):
                name = people[0][0]
                self._mail(f"{mail} ({name})" if name else mail)
        return False

    def _mail(self, address: str) -> None:
        raise NotImplementedError

    def _person(self, author: etree._Element) -> tuple[str, str]:
        found = {
            etree.QName(one).localname: text_of(one).strip() for one in author if isinstance(one.tag, str)
        }
        return found.get("name", ""), found.get("email", "")

    def _category(self, child: etree._Element) -> bool:
        term, label = child.get("term", ""), child.get("label", "")
        add(self._target, "category", term or label, domain=child.get("scheme", ""))
        return bool(term) and label in ("", term)

    def _best_link(self) -> etree._Element | None:
        """The page of the feed or entry: of several, the first that is a web page."""
        pages = [one for one in self._all("link") if one.get("rel", "alternate") == "alternate"]
        pages = [one for one in pages if one.get("href", "").strip()]
        web = [one for one in pages if one.get("type", "text/html") in ("text/html", "application/xhtml+xml")]
        return next(iter(web or pages), None)

    def _page(self, child: etree._Element) -> bool:
        if child is not self._link:
            return False
        is_said = self._put("link", child, child.get("href", "").strip())
        return is_said and not set(child.keys()) - {"href", "rel", "type", XML_BASE}


class _Feed(_Rewriter):
    def _words(self) -> Mapping[str, Callable[[etree._Element], bool]]:
        if language := self._source.get(_LANG):
            add(self._target, "language", language)
        copyright_ = self._rights
        return {
            "title": self._title,
            "subtitle": self._description,
            "tagline": self._description,
            "link": self._page,
            "author": self._author,
            "category": self._category,
            "rights": copyright_,
            "copyright": copyright_,
            "generator": self._generator,
            "updated": self._built,
            "modified": self._built,
            "logo": self._picture,
            "icon": self._icon,
            "entry": self._entry,
        }

    def _description(self, child: etree._Element) -> bool:
        return self._put("description", child, _markup(child, escape=True))

    def _rights(self, child: etree._Element) -> bool:
        return self._put("copyright", child, _markup(child, escape=False))

    def _mail(self, address: str) -> None:
        add(self._target, "managingEditor", address)

    def _generator(self, child: etree._Element) -> bool:
        return self._put("generator", child, text_of(child).strip()) and not child.keys()

    def _built(self, child: etree._Element) -> bool:
        return self._put("lastBuildDate", child, as_rfc2822(text_of(child)))

    def _picture(self, child: etree._Element) -> bool:
        if not self._once("image"):
            return False
        titles = self._all("title")
        title = _markup(titles[0], escape=False) if titles else ""
        link = self._link.get("href", "") if self._link is not None else ""
        add_image(self._target, text_of(child).strip(), title, link, is_cover=not self._has("itunes:image"))
        return True

    def _icon(self, child: etree._Element) -> bool:
        if not self._all("logo"):
            self._picture(child)
        return False

    def _entry(self, child: etree._Element) -> bool:
        item = etree.SubElement(self._target, "item")
        _copy_context(child, item)
        _Entry(child, item).write()
        return True


class _Entry(_Rewriter):
    def _words(self) -> Mapping[str, Callable[[etree._Element], bool]]:
        dates = self._all(*_PUBLISHED) or self._all(*_UPDATED)
        if dates:
            self._put("pubDate", dates[0], as_rfc2822(text_of(dates[0])))
        said = dates[0] if dates and self._name(dates[0]) in _PUBLISHED else None

        def date(child: etree._Element) -> bool:
            return child is said

        return {
            "title": self._title,
            "id": self._guid,
            "link": self._any_link,
            "summary": self._summary,
            "content": self._content,
            "author": self._author,
            "category": self._category,
            **dict.fromkeys((*_PUBLISHED, *_UPDATED), date),
        }

    def _guid(self, child: etree._Element) -> bool:
        return self._put("guid", child, text_of(child), isPermaLink="false")

    def _mail(self, address: str) -> None:
        add(self._target, "author", address)

    def _any_link(self, child: etree._Element) -> bool:
        url = child.get("href", "").strip()
        if child.get("rel", "").strip().lower() != "enclosure" or not url:
            return self._page(child)
        made = add_enclosure(
            self._target,
            url,
            child.get("type", ""),
            child.get("length", ""),
            atom_title=child.get("title", ""),
            atom_hreflang=child.get("hreflang", ""),
        )
        if made is not None and (base := child.get(XML_BASE)):
            made.set(XML_BASE, base)
        return not set(child.keys()) - {"href", "rel", "type", "length", "title", "hreflang", XML_BASE}

    def _summary(self, child: etree._Element) -> bool:
        return self._put("description", child, _markup(child, escape=True))

    def _content(self, child: etree._Element) -> bool:
        kind = child.get("type", "text").strip().lower()
        if url := child.get("src", "").strip():
            if kind.startswith(("audio/", "video/")):
                add_enclosure(self._target, url, kind)
            return False
        if kind not in _INLINE:
            return False
        return self._put("content:encoded", child, _markup(child, escape=True))


def _copy_context(source: etree._Element, target: etree._Element | None) -> None:
    """The language and the start of relative addresses."""
    if target is not None:
        for name in (XML_BASE, _LANG):
            if value := source.get(name):
                target.set(name, value)


def _markup(construct: etree._Element, *, escape: bool) -> str:
    """A text construct as the HTML that RSS has in its texts; ``escape`` says that plain text becomes HTML.

    Source: RFC 4287 §3.1; Atom 0.3 had ``mode`` and types of MIME instead.
    """
    kind = construct.get("type", "text").strip().lower()
    mode = construct.get("mode", "")
    if kind in ("xhtml", "application/xhtml+xml") or (mode != "escaped" and len(construct)):
        return _inner_xml(construct)
    text = text_of(construct)
    if mode == "base64" or (not mode and kind == "application/octet-stream"):
        text = _unpacked(text)
    is_plain = kind in ("text", "text/plain") and mode != "escaped"
    return html.escape(text, quote=False) if escape and is_plain else text


def _unpacked(text: str) -> str:
    """Base64 as the text that it holds; as it is where it holds none."""
    try:
        return legal(b64decode("".join(text.split()), validate=True).decode())
    except ValueError:
        return text


def _inner_xml(construct: etree._Element) -> str:
    """What stands within, without the ``<div>`` that Atom wants around it, in HTML's names."""
    copy = deepcopy(construct)
    copy.tail = None
    for one in copy.iter(etree.Element):
        if one.text:
            one.text = str(one.text)  # HTML has no CDATA
        if one.tail:
            one.tail = str(one.tail)
    for one in copy.iter(f"{_XHTML}*"):
        one.tag = etree.QName(one).localname
    holder = copy
    elements = [one for one in copy if isinstance(one.tag, str)]
    around = (copy.text or "") + "".join(one.tail or "" for one in copy)
    if len(elements) == 1 and elements[0].tag == "div" and not around.strip():
        holder = elements[0]
        holder.tail = None
    etree.cleanup_namespaces(copy)
    inner = html.escape(holder.text or "", quote=False)
    for child in holder:
        bare = etree.tostring(_without_declarations(child), encoding="unicode")
        inner += bare
    return inner.strip()


def _without_declarations(element: etree._Element) -> etree._Element:
    """A copy that stands alone: no namespace of what it stood in is declared at it without need."""
    alone = deepcopy(element)
    if isinstance(alone.tag, str):  # a comment has none
        etree.cleanup_namespaces(alone)
    return alone
