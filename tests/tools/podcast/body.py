"""What an origin sends: bytes at hand and spans of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.tools.podcast.media import MP3_BITRATES, id3_size, mp3_frame_size, mp3_frames
from tests.tools.podcast.noise import noise


@dataclass(frozen=True)
class Piece:
    """Part of a body: bytes at hand, or a span of a file."""

    size: int
    data: bytes | None = None
    path: Path | None = None
    offset: int = 0


@dataclass(frozen=True)
class Body:
    """A body of known size that can be read from any place."""

    pieces: tuple[Piece, ...]
    tag: str

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(piece.size for piece in self.pieces)

    def read(self, start: int, stop: int, step: int) -> Iterator[bytes]:
        """The bytes from start up to stop, at most `step` at a time."""
        at = 0
        for piece in self.pieces:
            first, last = max(start - at, 0), min(stop - at, piece.size)
            at += piece.size
            if first >= last:
                continue
            if piece.data is not None:
                for place in range(first, last, step):
                    yield piece.data[place : min(place + step, last)]
                continue
            assert piece.path is not None
            with piece.path.open("rb") as source:
                source.seek(piece.offset + first)
                while first < last and (data := source.read(min(step, last - first))):
                    yield data
                    first += len(data)

    @classmethod
    def of_bytes(cls, data: bytes) -> Body:
        """A body held in memory."""
        return cls((Piece(len(data), data=data),), hashlib.sha256(data).hexdigest()[:20])

    @classmethod
    def of_file(cls, path: Path) -> Body:
        """A file as it is now."""
        found = path.stat()
        tag = hashlib.sha256(f"{path.name} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:20]
        return cls((Piece(found.st_size, path=path),), tag)

    def with_advertisement(self, size: int, count: int) -> Body:
        """This file with an advertisement of its own for each count, before the audio if it is MP3."""
        (whole,) = self.pieces
        assert whole.path is not None
        with whole.path.open("rb") as source:
            start = source.read(10)
            front = min(id3_size(start), whole.size)
            source.seek(front)
            header = source.read(4)
        label = f"advertisement/{count}"
        if header[:2] == b"\xff\xfb" and header[2] >> 2 & 3 == 1:
            kbps = MP3_BITRATES[(header[2] >> 4) - 1]
            frames = max(1, size // mp3_frame_size(kbps)) + count % 3
            spot = b"".join(mp3_frames(label, kbps, frames))
        else:
            front = whole.size
            spot = b"".join(noise(label, size + 2 * (count % 3)))
        rest = replace(whole, size=whole.size - front, offset=front)
        pieces = (replace(whole, size=front), Piece(len(spot), data=spot), rest)
        return Body(pieces, f"{self.tag}-ad{count}")
