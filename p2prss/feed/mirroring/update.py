"""One update of a mirror, as those know it who fetch its media."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from p2prss.feed.archive.records import CapturePolicy
from p2prss.feed.archive.writer import FeedWriter
from p2prss.feed.mirroring.capture_memory import CaptureMemory
from p2prss.feed.mirroring.report import MirrorEvent, MirrorReport
from p2prss.feed.origin.fetch import Fetcher, Retries


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What every capture of one update works with; what it did goes into ``report`` and to ``tell``."""

    writer: FeedWriter
    fetcher: Fetcher
    folder: Path  # for files on their way, gone with the update
    policy: CapturePolicy
    retries: Retries
    memory: CaptureMemory
    now: Callable[[], datetime]  # aware, UTC
    tell: Callable[[MirrorEvent], None]
    report: MirrorReport
