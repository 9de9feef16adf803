"""What a node can be told to do, as values: they come from the command line or over the control API."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # it loads slowly
    from p2prss.feed.sources.opml import Subscription

from p2prss.feed.archive.records import RemovedPolicy as RemovedPolicy
from p2prss.feed.origin.access import Access

DEFAULT_LATEST: Final = 3  # episodes a follower keeps when nothing else was asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which episodes' media are to be local: all, the newest ``latest``, or those ``since`` a day."""

    latest: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PublishOrder:
    """Mirror a source into a feed and share it. What is None is done as it was asked for last."""

    source: str
    once: bool = False
    wanted: Wanted | None = None  # first: all
    name: str | None = None  # what to call it; empty: by its title again
    interval: float | None = None  # seconds between looks at the source; first: by the show's own rhythm
    websub_callback: str | None = None  # where hubs reach this node
    access: Access = field(default_factory=Access)  # its members count where they are not as usual
    confirmed: bool = False  # fetch even a very large show without asking
    recapture: str | None = None  # a ``feed.archive.records.Recapture``; first: never
    alternates: bool | None = None  # mirror other editions of the enclosures as well; first: yes
    removed: RemovedPolicy | None = None  # None: as it was asked for last
    allow_private: bool = False  # publish even what only some may read, by its address
    allow_locked: bool = False  # publish even what its publisher has locked
    unlisted: bool | None = None  # announce it nowhere; first: no
    forget_options: bool = False  # what was asked for before counts no longer
    feed: str | None = None  # the feed of ours that comes from this source from now on; None: a new one
    adopt: Path | None = None  # a folder of another program's downloads, to take over instead of fetching


@dataclass(frozen=True, slots=True)
class FollowOrder:
    """Replicate a feed and serve it to podcast apps. What is None is done as it was asked for last."""

    feed: str
    once: bool = False
    wanted: Wanted | None = None  # first: the newest ``DEFAULT_LATEST``
    patience: float | None = None  # seconds without a block until ``once`` gives up; None: as usual
    removed: RemovedPolicy | None = None  # None: as it was asked for last, else as its mirror does
    named_by: tuple[str, ...] = ()  # addresses that named its key: it has to name one of them in return


@dataclass(frozen=True, slots=True)
class SeedOrder:
    """Replicate whole drives and share them."""

    feeds: tuple[str, ...]
    once: bool = False
    patience: float | None = None  # as in FollowOrder


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """Follow and publish what a list names; ``follow`` are links and keys, ``publish`` addresses of feeds."""

    follow: "tuple[Subscription, ...]"
    publish: "tuple[Subscription, ...]" = ()
    once: bool = False
    wanted: Wanted | None = None  # as in FollowOrder
    patience: float | None = None  # as in FollowOrder


@dataclass(frozen=True, slots=True)
class UpOrder:
    """Run every feed that is saved in the home."""

    once: bool = False  # for ever, always


Order = PublishOrder | FollowOrder | SeedOrder | ImportOrder | UpOrder
