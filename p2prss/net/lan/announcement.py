"""What a node says of itself on the local network, as names and TXT members of mDNS services.

Participants: nodes on one link. Goal: who has a feed's discovery key notices that a neighbour has it
too, and can make sure to reach that very neighbour. Non-goals: secrecy from those who know the
discovery key, and hiding that a node is there. So a feed is announced as a *tag*, a hash of the node's
public key and the feed's discovery key: it tells nothing to others, and is another one in every run.
Source: spec/07-net, "LAN".
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from p2prss.codec import z32
from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KEY_SIZE, DiscoveryKey, PublicKey
from p2prss.errors import DecodeError

SERVICE_TYPE: Final = "_p2prss._tcp.local."
TAG_SIZE: Final = 8  # bytes: nobody hits one by guessing
MAX_STRINGS: Final = 4  # TXT strings with tags: with them an announcement fits one Ethernet packet
TAGS_PER_STRING: Final = 31  # a TXT string has at most 255 bytes
MAX_TAGS: Final = 124  # of one service: those of all its strings
MAX_SERVICES: Final = 16  # of one node; its feeds beyond the tags of so many are not announced
MAX_TEXT_BYTES: Final = 1300  # of the TXT record of a service
MIN_PORT: Final = 1024  # announcements can't make anybody knock at the ports of well-known services

_VERSION: Final = b"1"
_TAG_CONTEXT: Final = b"p2prss lan tag 1"
_NAME: Final = re.compile(r"([ybndrfg8ejkmcpqxot1uwisza345h769]{52})-([0-9]|1[0-5])")


@dataclass(frozen=True, slots=True)
class Announcement:
    """One service of a node: its public key, the number of the service, tags of feeds, its TCP port."""

    key: PublicKey
    part: int
    tags: frozenset[bytes]
    port: int

    @property
    def name(self) -> str:
        """The full name of the service."""
        return f"{z32.encode(self.key)}-{self.part}.{SERVICE_TYPE}"

    def text(self) -> dict[bytes, bytes]:
        """The members of the TXT record: ``v`` is 1, ``t0`` and so on are tags, joined and in order."""
        members = {b"v": _VERSION}
        tags = sorted(self.tags)
        for number, start in enumerate(range(0, len(tags), TAGS_PER_STRING)):
            members[b"t%d" % number] = b"".join(tags[start : start + TAGS_PER_STRING])
        return members

    @classmethod
    def decode(cls, name: str, text: Mapping[bytes, bytes | None], port: int | None) -> "Announcement":
        """Read what a stranger announces; members that are not known are ignored.

        Raises: DecodeError.
        """
        key, part = decode_name(name)
        if text.get(b"v") != _VERSION:
            raise DecodeError("unknown version of an announcement")
        if port is None or not MIN_PORT <= port <= 0xFFFF:
            raise DecodeError("bad port")
        joined = b"".join(text.get(b"t%d" % number) or b"" for number in range(MAX_STRINGS))
        if not joined or len(joined) % TAG_SIZE or len(joined) > MAX_TAGS * TAG_SIZE:
            raise DecodeError("bad tags")
        tags = frozenset(joined[place : place + TAG_SIZE] for place in range(0, len(joined), TAG_SIZE))
        return cls(key, part, tags, port)

    def tells_of(self, feeds: Iterable[DiscoveryKey]) -> bool:
        """Whether the node has one of these feeds."""
        return any(feed_tag(self.key, feed) in self.tags for feed in feeds)


def decode_name(name: str) -> tuple[PublicKey, int]:
    """The public key and the number of a service.

    Raises: DecodeError when it is not one that a node would choose.
    """
    instance, dot, service_type = name.lower().partition(".")
    found = _NAME.fullmatch(instance)
    if found is None or not dot or service_type != SERVICE_TYPE:
        raise DecodeError("no name of a p2prss service")
    key = z32.decode(found[1])
    if len(key) != KEY_SIZE:
        raise DecodeError("no public key")
    return PublicKey(key), int(found[2])


def feed_tag(key: PublicKey, feed: DiscoveryKey) -> bytes:
    """What a node with that public key announces for a feed.

    Returns: the first 8 bytes of BLAKE2b-256(``p2prss lan tag 1``, public key, discovery key).
    """
    return blake2b(_TAG_CONTEXT, key, feed)[:TAG_SIZE]


def announcements(key: PublicKey, feeds: Collection[DiscoveryKey], port: int) -> list[Announcement]:
    """All that a node announces; empty when it has no feeds."""
    tags = sorted({feed_tag(key, feed) for feed in feeds})[: MAX_SERVICES * MAX_TAGS]
    return [
        Announcement(key, part, frozenset(tags[start : start + MAX_TAGS]), port)
        for part, start in enumerate(range(0, len(tags), MAX_TAGS))
    ]
