"""Folders of media to publish: short silent files of each format, with the tags a test wants."""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import mutagen
from mutagen.flac import Picture
from mutagen.id3 import APIC, COMM, TALB, TDRC, TIT2, TPE1, TRCK

from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

SILENCE: Final = Path(__file__).parent / "media"
MODIFIED: Final = 1_700_000_000  # of the first file, in seconds; the next ones an hour apart


def add(folder: Path, name: str, hours: int = 0) -> Path:
    """Put a silent file into a folder; its format is that of its ending."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SILENCE / f"silence.{name.rpartition('.')[2]}", path)
    os.utime(path, (MODIFIED + 3600 * hours,) * 2)
    return path


def tag(path: Path, *, cover: bytes = b"", **tags: str) -> None:
    """Tag a file as its format does; its time stays."""
    status = path.stat()
    file: Any = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    match path.suffix:
        case ".mp3" | ".wav":
            frames = {"title": TIT2, "artist": TPE1, "album": TALB, "date": TDRC, "track": TRCK}
            for name, text in tags.items():
                if name == "comment":
                    file.tags.add(COMM(encoding=3, lang="eng", desc="", text=[text]))
                else:
                    file.tags.add(frames[name](encoding=3, text=[text]))
            if cover:
                file.tags.add(APIC(encoding=3, mime="image/png", type=3, desc="", data=cover))
        case ".m4a":
            names = {"title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb", "date": "\xa9day"}
            for name, text in tags.items():
                if name == "track":
                    file.tags["trkn"] = [(int(text), 9)]
                else:
                    file.tags[names.get(name, "\xa9cmt")] = [text]
            if cover:
                file.tags["covr"] = [cover]
        case _:
            for name, text in tags.items():
                file.tags[{"track": "tracknumber"}.get(name, name)] = [text]
            if cover and path.suffix == ".flac":
                picture: Any = Picture()  # type: ignore[no-untyped-call]
                picture.type, picture.mime, picture.data = 3, "image/png", cover
                file.add_picture(picture)
    file.save()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def picture(folder: Path, number: int = 1) -> bytes:
    """A PNG; another number, another picture."""
    make_podcast(folder / f"covers-{number}", Spec(episodes=1, megabytes=0.01, cover_side=8 + number))
    return (folder / f"covers-{number}" / "cover.png").read_bytes()


def album(folder: Path) -> Path:
    """Four episodes in four formats, of one show and one voice."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("one.mp3", "two.m4a", "three.ogg", "four.flac"), 1):
        path = add(folder, name, number)
        tag(
            path, title=f"Part {number}", artist="Ann", album="The Album", track=str(number), comment="Notes."
        )
    return folder
