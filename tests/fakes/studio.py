"""A drive of our own over logs in memory, and an origin to mirror."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from p2prss.crypto.keys import PublicKey
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.feed.archive.archive import FeedArchive
from p2prss.feed.mirroring.mirror import Mirror
from p2prss.feed.mirroring.report import MirrorEvent, MirrorReport
from p2prss.feed.origin.fetch import Retries
from p2prss.log.manifest import Manifest, core_key
from tests.fakes.memory_core import MemoryCore, as_core

MANIFEST = Manifest.single(PublicKey(bytes(32)))
QUICK = Retries(attempts=3, first_wait_seconds=0.01, max_wait_seconds=2, random=Random(1))


@dataclass
class MemoryState:
    value: bytes | None = None

    def load(self) -> bytes | None:
        return self.value

    def save(self, value: bytes) -> None:
        self.value = value


@dataclass
class Studio:
    """One mirror's drive and state, over any number of updates."""

    scratch: Path
    db: MemoryCore = field(default_factory=lambda: MemoryCore(key=core_key(MANIFEST), manifest=MANIFEST))
    blobs: MemoryCore = field(default_factory=MemoryCore)
    state: MemoryState = field(default_factory=MemoryState)
    captures: MemoryState = field(default_factory=MemoryState)
    events: list[MirrorEvent] = field(default_factory=list)

    @functools.cached_property
    def drive(self) -> Drive:
        async def open_core(key: object, manifest: object) -> Core:
            return as_core(self.blobs)

        return Drive(as_core(self.db), open_core)

    @property
    def archive(self) -> FeedArchive:
        return FeedArchive(self.drive)

    async def update(
        self, source: str, *, tell: Callable[[MirrorEvent], None] | None = None, **options: Any
    ) -> MirrorReport:
        options = {"retries": QUICK, "now": lambda: datetime(2025, 1, 1, tzinfo=UTC), **options}
        options = {"captures": self.captures, **options}
        mirror = Mirror(source, self.drive, scratch=self.scratch, state=self.state, **options)
        self.events.clear()
        report = await mirror.update(tell or self.events.append)
        assert not list(self.scratch.iterdir())
        return report
