"""A show as RSS, written by feedgen: the same show is always the same bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from feedgen.entry import FeedEntry
from feedgen.feed import FeedGenerator
from lxml import etree

from p2prss.feed.document.names import ITUNES, PODCAST
from p2prss.feed.sources.show import CHAPTERS_TYPE, Episode, Show

MAX_DESCRIPTION_BYTES: Final = 4000  # the most that PSP-1 allows; all of it is in content:encoded
_MORE: Final = " …"
_NAMESPACES: Final = {"itunes": ITUNES, "podcast": PODCAST}


@dataclass
class _Tag:
    """An element of another namespace; its name has the usual prefix."""

    name: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: Sequence["_Tag"] = ()


class _PodcastTags:
    """Elements of the itunes and podcast namespaces, as they are given: an extension of feedgen.

    feedgen's own podcast extension knows one of the two, and refuses pictures whose address does not end in
    ``.jpg``.
    """

    def __init__(self) -> None:
        self.tags: list[_Tag] = []

    def extend_ns(self) -> dict[str, str]:
        """Prefixes for the root."""
        return _NAMESPACES

    def extend_rss(self, parent: Any) -> Any:
        """Add the elements to the channel or the item."""
        place = parent if parent.tag == "item" else parent[0]
        for tag in self.tags:
            _append(place, tag)
        return parent


def _append(parent: Any, tag: _Tag) -> None:
    prefix, _, name = tag.name.partition(":")
    element = etree.SubElement(parent, f"{{{_NAMESPACES[prefix]}}}{name}", dict(tag.attributes))
    element.text = tag.text or None
    for child in tag.children:
        _append(element, child)


def show_feed(show: Show) -> bytes:
    """The RSS of a show; its addresses are relative to the folder."""
    generator = FeedGenerator()
    generator.register_extension("podcast_tags", _PodcastTags, _PodcastTags)
    generator.title(show.title)
    generator.link(href=show.link, rel="alternate")
    generator.description(_cut(show.description))
    generator.language(show.language)
    generator.generator("p2prss")
    if show.copyright:
        generator.copyright(show.copyright)
    if show.episodes:
        generator.lastBuildDate(show.episodes[0].published)
    generator.podcast_tags.tags = _channel_tags(show)
    for episode in show.episodes:
        _add(generator.add_entry(order="append"), episode)
    return bytes(generator.rss_str(pretty=True))


def _channel_tags(show: Show) -> list[_Tag]:
    categories = [
        _Tag(
            "itunes:category",
            "",
            {"text": main},
            [_Tag("itunes:category", "", {"text": one}) for one in part],
        )
        for main, *part in show.categories
    ]
    tags = [
        _Tag("itunes:image", "", {"href": show.image}),
        *categories,
        _Tag("itunes:explicit", str(show.explicit).lower()),
        _Tag("itunes:type", show.type),
        _Tag("podcast:guid", show.guid),
    ]
    if show.author:
        tags.append(_Tag("itunes:author", show.author))
    if show.email:
        name = _Tag("itunes:name", show.author or show.title)
        tags.append(_Tag("itunes:owner", "", {}, [name, _Tag("itunes:email", show.email)]))
    return tags


def _cut(text: str) -> str:
    """A text no longer than directories take it, cut between two words."""
    if len(text.encode()) <= MAX_DESCRIPTION_BYTES:
        return text
    start = text.encode()[: MAX_DESCRIPTION_BYTES - len(_MORE.encode())].decode("utf-8", "ignore")
    return (start.rsplit(maxsplit=1)[0] if " " in start else start).rstrip() + _MORE


def _add(entry: FeedEntry, episode: Episode) -> None:
    entry.guid(episode.guid, permalink=False)
    entry.title(episode.title)
    if episode.description:
        brief = _cut(episode.description)
        entry.description(brief)
        if brief != episode.description:
            entry.content(episode.description)
    entry.published(episode.published)
    entry.enclosure(episode.address, str(episode.byte_length), episode.mime_type)
    optional = {
        "itunes:duration": episode.seconds,
        "itunes:season": episode.season,
        "itunes:episode": episode.number,
        "itunes:author": episode.author,
        "itunes:explicit": None if episode.explicit is None else str(episode.explicit).lower(),
    }
    tags = [_Tag(name, str(value)) for name, value in optional.items() if value]
    if episode.image:
        tags.append(_Tag("itunes:image", "", {"href": episode.image}))
    tags += [_Tag("podcast:transcript", "", {"url": url, "type": kind}) for url, kind in episode.transcripts]
    if episode.chapters:
        tags.append(_Tag("podcast:chapters", "", {"url": episode.chapters, "type": CHAPTERS_TYPE}))
    entry.podcast_tags.tags = tags
