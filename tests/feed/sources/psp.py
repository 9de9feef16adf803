"""What PSP-1, the podcast RSS profile, requires of a feed; and nothing else."""

import re
from typing import Final
from urllib.parse import urlsplit
from xml.etree import ElementTree

ITUNES: Final = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"
ATOM: Final = "{http://www.w3.org/2005/Atom}"
SCHEMES: Final = frozenset({"http", "https", "hyper"})


def check_required(feed: bytes) -> None:
    """Assert that every required element is there, once, and means something."""
    root = ElementTree.fromstring(feed)
    assert root.tag == "rss"
    assert root.attrib["version"] == "2.0"
    (channel,) = root.findall("channel")
    for name in ("title", "description", "link", "language"):
        (element,) = channel.findall(name)
        assert (element.text or "").strip(), name
    assert urlsplit(channel.findtext("link", "")).scheme in SCHEMES
    assert re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", channel.findtext("language", ""))
    assert all(one.attrib["text"] for one in channel.iter(f"{ITUNES}category"))
    assert channel.findall(f"{ITUNES}category")
    assert channel.findtext(f"{ITUNES}explicit") in ("true", "false")
    (image,) = channel.findall(f"{ITUNES}image")
    _check_address(image.attrib["href"])
    (own,) = [one for one in channel.findall(f"{ATOM}link") if one.attrib["rel"] == "self"]
    _check_address(own.attrib["href"])
    assert own.attrib["type"] == "application/rss+xml"
    guids = []
    for item in channel.findall("item"):
        assert item.findtext("title", "").strip()
        (enclosure,) = item.findall("enclosure")
        _check_address(enclosure.attrib["url"])
        assert int(enclosure.attrib["length"]) > 0
        assert re.fullmatch(r"(audio|video)/[\w.+-]+", enclosure.attrib["type"])
        (guid,) = item.findall("guid")
        guids.append(guid.text)
    assert all(guids)
    assert len(set(guids)) == len(guids) > 0


def _check_address(address: str) -> None:
    assert address.isascii(), address
    parts = urlsplit(address)
    assert parts.scheme in SCHEMES, address
    assert parts.netloc, address
