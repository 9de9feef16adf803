"""What a made podcast is like."""

from dataclasses import dataclass
from datetime import datetime, timedelta

OMITTABLE = ("guid", "length", "pubdate", "type", "description", "itunes", "podcast", "cover")
LENGTHS = ("right", "wrong", "zero", "missing")
MEDIA = ("mp3", "wav", "mixed")


@dataclass(frozen=True)
class Spec:
    """What a podcast is made of."""

    episodes: int = 5
    megabytes: float = 1.0
    seed: str = "p1"
    title: str = "The Copper Compass"
    base_url: str = "http://127.0.0.1:8000"
    media: str = "mp3"
    bitrate: int = 128
    vary: float = 0.0
    speech: bool = False
    start: str = "2024-01-01T06:00:00+00:00"
    interval_hours: float = 168.0
    revision: int = 0
    drop: frozenset[int] = frozenset()
    revise: frozenset[int] = frozenset()
    retitle: frozenset[int] = frozenset()
    omit: frozenset[str] = frozenset()
    lengths: str = "right"
    encoding: str = "utf-8"
    relative: bool = False
    trackers: int = 0
    awkward_titles: bool = True
    cover_side: int = 1400


def published_at(spec: Spec, number: int) -> datetime:
    """When an episode came out."""
    return datetime.fromisoformat(spec.start) + timedelta(hours=spec.interval_hours) * (number - 1)


def built_at(spec: Spec) -> datetime:
    """What the feed says about its own age."""
    return published_at(spec, max(1, spec.episodes)) + timedelta(minutes=spec.revision)
