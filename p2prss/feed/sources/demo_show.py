"""A tiny show for trying things out: a few melodies as WAV files and the feed that names them.

The same call always writes the same bytes.
"""

import math
import struct
import wave
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from feedgen.feed import FeedGenerator

SAMPLE_RATE: Final = 22_050  # per second, mono, 16 bit
NOTE_SECONDS: Final = 0.32
FIRST_PUBLISHED: Final = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Melody:
    """One episode: a title and the notes to play, as semitones above A3."""

    name: str
    title: str
    notes: tuple[int, ...]


MELODIES: Final = (
    Melody("one", "Morning, in three notes", (0, 4, 7, 12, 7, 4, 0, -5, 0, 4, 7, 4, 0)),
    Melody("two", "A walk up the hill", (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0)),
    Melody("three", "Evening, and home", (12, 9, 7, 4, 7, 9, 12, 7, 4, 0, 2, 4, 0)),
)


def make_demo_show(folder: Path) -> Path:
    """Write the show into a folder that exists; returns the path of its feed file."""
    generator = FeedGenerator()
    generator.load_extension("podcast")
    generator.title("The Demo Show")
    generator.link(href="https://example.org/demo", rel="alternate")
    generator.description("Three short melodies that travel from one home to another.")
    generator.language("en")
    generator.generator("p2prss demo")
    generator.lastBuildDate(FIRST_PUBLISHED)
    for number, melody in enumerate(MELODIES):
        path = folder / f"{melody.name}.wav"
        _write_wave(path, melody.notes)
        entry = generator.add_entry(order="append")
        entry.guid(f"p2prss-demo-{melody.name}", permalink=False)
        entry.title(melody.title)
        entry.description(f"Melody number {number + 1}.")
        entry.published(FIRST_PUBLISHED + timedelta(days=7 * number))
        entry.enclosure(path.name, str(path.stat().st_size), "audio/x-wav")
    feed = folder / "feed.xml"
    generator.rss_file(str(feed), pretty=True)
    return feed


def _write_wave(path: Path, notes: tuple[int, ...]) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        for note in notes:
            out.writeframes(_tone(220 * 2 ** (note / 12)))


def _tone(frequency: float) -> bytes:
    """A soft tone: two partials that fade."""
    count = int(SAMPLE_RATE * NOTE_SECONDS)
    samples = []
    for index in range(count):
        at = index / SAMPLE_RATE
        swell = min(1.0, index / 400) * (1 - index / count) ** 1.5
        value = math.sin(math.tau * frequency * at) + 0.3 * math.sin(2 * math.tau * frequency * at)
        samples.append(int(9000 * swell * value))
    return struct.pack(f"<{count}h", *samples)
