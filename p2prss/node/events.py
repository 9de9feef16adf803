"""What a node tells whoever runs it: one line of JSON each with ``--json``.

Members are added over time and never taken away (design of the command line; spec/00-overview).
Sizes are bytes; ``episodes`` are the items of the feed's archive, those without media among them.
"""

from datetime import datetime

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower, kw_only=True):
    """Something that happened; ``event`` is its name in lower case."""


class Ready(Event, frozen=True):
    """The feed can be reached: by peers at ``listen``, by podcast apps at ``feed_url``.

    ``listen`` are TCP addresses, ``udp_port`` is the port of the DHT and of the peers found there.
    """

    key: str
    link: str
    feed_url: str | None
    http: str | None
    listen: list[str]
    udp_port: int | None = None
    home: str = ""
    lan_url: str | None = None  # for phones on the local network
    lan_plain_url: str | None = None  # the same without a name


class Published(Event, frozen=True):
    """An update of the source is in the feed and signed.

    ``adopted`` files of ``adopted_bytes`` were taken over from another program instead of being fetched.
    """

    key: str
    version: int
    episodes: int
    media_files: int
    bytes: int
    new: int = 0
    changed: int = 0
    removed: int = 0  # in all; see spec/08-feeds for how items leave a feed
    aged_out: int = 0
    taken_out: int = 0
    failed: int = 0
    adopted: int = 0
    adopted_bytes: int = 0
    unchanged: bool = False
    title: str = ""


class Waiting(Event, frozen=True):
    """Nothing is done until the next look at the source; None when there will be none."""

    key: str
    next_look: datetime | None
    seconds: float | None


class Synced(Event, frozen=True):
    """Everything that is wanted of the feed is local."""

    key: str
    version: int
    episodes: int
    media_files: int
    bytes: int


class Withdrawn(Event, frozen=True):
    """The publisher has taken the feed back; it is shared no longer."""

    key: str
    title: str
    version: int


class Progress(Event, frozen=True):
    """How far the present work is; ``total`` is None while it is not known."""

    key: str
    what: str
    done: int
    total: int | None = None
    unit: str = "bytes"
    peers: int = 0


class Error(Event, frozen=True):
    """Something failed; the node goes on unless the command ends with this."""

    code: int
    message: str
    key: str | None = None


class Notice(Event, frozen=True):
    """Something a person wants to know and a program may ignore; level 1 is for those who asked for more."""

    message: str
    key: str | None = None
    level: int = 0
