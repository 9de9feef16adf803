"""The feeds a home knows, as they are saved in its store."""

import re
import secrets
import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import UsageError
from p2prss.feed.archive.records import CapturePolicy, RemovedPolicy
from p2prss.feed.mirroring.capture_memory import CAPTURES_KIND
from p2prss.feed.origin.access import PrivateHost
from p2prss.log.store import Store
from p2prss.node.link_text import FeedLink

KIND: Final = "feed"
STATE_KIND: Final = "mirror"  # of records, as all of these: what the last update of a mirror has found
FOLDER_KIND: Final = "folder"  # what is known of a folder of media
SITE_KIND: Final = "site"  # likewise of a folder with a site
POLL_KIND: Final = "poll"  # of the looks at a source
FEED_KINDS: Final = (STATE_KIND, CAPTURES_KIND, FOLDER_KIND, SITE_KIND, POLL_KIND)  # by the feed's key
UNREADABLE_STEP: Final = (
    "update p2prss if a newer one wrote it; else follow or seed it again by its key, or p2prss remove KEY"
)
MAX_SLUG_LENGTH: Final = 48  # characters


_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Role(StrEnum):
    """What this home does for a feed."""

    PUBLISH = "publish"
    FOLLOW = "follow"
    SEED = "seed"
    UNKNOWN = "unknown"  # its record can't be read; never saved


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a source of ours is to be mirrored, as its user last asked for it; it never leaves the home.

    ``policy`` is None only in records from before there were any of these: then it is the mirror's.
    """

    policy: CapturePolicy | None = None
    interval: float | None = None  # seconds between looks; None: by the show's own rhythm
    websub_callback: str | None = None
    user_agent: str | None = None  # None: as we introduce ourselves to everybody
    private_hosts: tuple[PrivateHost, ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return "Asked(…)"  # it may hold secrets


class SavedFeed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One feed. ``seed_name`` is the random name its key pair is derived from, for our own feeds."""

    key: str  # z-base-32
    role: Role
    created: datetime
    source: str | None = None  # may hold credentials: it never leaves the home
    seed_name: str | None = None
    name: str | None = None  # given by the user
    title: str = ""  # as last seen in the feed
    slug: str = ""
    latest: int | None = None
    since: datetime | None = None
    removed: RemovedPolicy | None = None
    peers: tuple[str, ...] = ()
    withdrawn: datetime | None = None  # one of ours that we took back
    from_list: bool = False  # its address came from a list of feeds, not from the user
    asked: Asked | None = None  # of a feed of ours
    allow_locked: bool = False  # its publisher locked it, and the user has their leave
    reserved: bool = False  # it is locked without leave, or it is not known yet: it is not announced
    unlisted: bool = False  # announced nowhere: only who knows key and address comes to it
    problem: str = ""  # why its role is unknown; never saved
    named_by: tuple[str, ...] = ()  # addresses that named it, while it has not named one of them in return

    @property
    def core_key(self) -> CoreKey:
        """The key as bytes."""
        return parse_key(self.key)

    @property
    def label(self) -> str:
        """What to call it."""
        return self.name or self.title or self.key

    @property
    def trouble(self) -> str:
        """Its problem and what to do about it, in one line; empty where there is none."""
        return f"{self.problem}: {UNREADABLE_STEP}" if self.problem else ""


class SavedFeeds:
    """Reads and writes the feeds of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[SavedFeed]:
        """Every feed, oldest first; one whose record can't be read is of the role ``unknown``."""
        feeds = [decode_feed(key, value) for key, value in self._store.records(KIND)]
        return sorted(feeds, key=lambda feed: (feed.created, feed.key))

    def get(self, key: CoreKey) -> SavedFeed | None:
        """The feed of that key; as in ``all``."""
        value = self._store.get_record(KIND, format_key(key))
        return decode_feed(format_key(key), value) if value is not None else None

    def by_source(self, source: str) -> SavedFeed | None:
        """The feed this home publishes from that source, unless it took that back."""
        feeds = (feed for feed in self.all() if feed.role is Role.PUBLISH and feed.source == source)
        return next((feed for feed in feeds if feed.withdrawn is None), None)

    def find(self, text: str) -> SavedFeed:
        """The feed meant by a key, a link, a short name, or a title that only one feed has.

        Raises: UsageError when there is none, or more than one.
        """
        feeds = self.all()
        named = [feed for feed in feeds if text in (feed.slug, feed.key) or text == feed.label]
        if len(named) == 1:
            return named[0]
        if named:
            raise UsageError(f"{text!r} means several feeds; use a key of `p2prss list`")
        try:
            key = FeedLink.parse(text).key
        except UsageError:
            raise UsageError(f"no feed called {text!r} here; see `p2prss list`") from None
        if (feed := self.get(key)) is None:
            raise UsageError(f"the feed {format_key(key)} is not in this home; see `p2prss list`")
        return feed

    def save(self, feed: SavedFeed) -> SavedFeed:
        """Keep it, with a short name of its own as soon as it has a title."""
        if not feed.slug and (feed.name or feed.title):
            feed = msgspec.structs.replace(feed, slug=self._new_slug(feed.name or feed.title))
        self._store.put_record(KIND, feed.key, msgspec.json.encode(feed))
        return feed

    def delete(self, feed: SavedFeed) -> None:
        """Forget it, and all small records of it; its logs are removed by the caller."""
        for kind in (KIND, *FEED_KINDS):
            self._store.delete_record(kind, feed.key)

    def _new_slug(self, title: str) -> str:
        taken = {feed.slug for feed in self.all()}
        ascii_text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        base = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:MAX_SLUG_LENGTH].strip("-") or "feed"
        slug, number = base, 2
        while slug in taken:
            slug, number = f"{base}-{number}", number + 1
        return slug


def decode_feed(key: str, value: bytes) -> SavedFeed:
    """One record. One that can't be read hides no other feed: it is told by all that lists them."""
    try:
        feed = msgspec.json.decode(value, type=SavedFeed)
        parse_key(key)
    except (msgspec.MsgspecError, TypeError, UsageError, RecursionError) as error:
        cause = str(error)
    else:
        if feed.key == key and feed.role is not Role.UNKNOWN:
            return feed
        cause = "it is of another feed"
    problem = f"its record in this home can't be read ({cause})"
    return SavedFeed(key=key, role=Role.UNKNOWN, created=_LONG_AGO, problem=problem)


def new_feed(key: CoreKey, role: Role) -> SavedFeed:
    """A feed that was not known until now."""
    return SavedFeed(key=format_key(key), role=role, created=datetime.now(UTC).replace(microsecond=0))


def new_seed_name() -> str:
    """A name nobody else uses, for deriving a key pair."""
    return secrets.token_hex(16)
