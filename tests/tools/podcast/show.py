"""A whole podcast on disk: feed, media and manifest."""

import hashlib
import json
import os
import uuid
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.tools.podcast.feed import PODCAST_NAMESPACE, Episode, clock, feed_text
from tests.tools.podcast.media import TYPES, Media, mp3_file, png, wav_file
from tests.tools.podcast.noise import number_from, pick
from tests.tools.podcast.spec import Spec, built_at, published_at
from tests.tools.podcast.words import paragraph, title_of


def make_podcast(folder: Path, spec: Spec) -> dict[str, Any]:
    """Write the podcast and return its manifest (what manifest.json says)."""
    before = {entry["path"]: entry for entry in read_manifest(folder).get("episodes", [])}
    for name in ("media", "chapters", "transcripts", "images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_whole(folder / "cover.png", png(f"{spec.seed}/cover", spec.cover_side))
    episodes = [_make_episode(folder, spec, number, before) for number in range(1, spec.episodes + 1)]
    text = feed_text(spec, [one for one in episodes if one.number not in spec.drop])
    write_whole(folder / "feed.xml", text.encode(spec.encoding, "xmlcharrefreplace"), built_at(spec))
    manifest = {
        "about": "Made by tests.tools.podcast; episodes in order of publication, whether dropped or not.",
        "base_url": spec.base_url,
        "encoding": spec.encoding,
        "feed": "feed.xml",
        "dropped": sorted(spec.drop),
        "bytes": sum(one.bytes for one in episodes),
        "episodes": [asdict(one) for one in episodes],
    }
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return manifest


def write_whole(path: Path, data: bytes, when: datetime | None = None) -> None:
    """Put a whole file in place, so that a server never shows half of one."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(data)
    _finish(draft, path, when)


def _finish(draft: Path, path: Path, when: datetime | None) -> None:
    if when:
        os.utime(draft, (when.timestamp(), when.timestamp()))
    draft.replace(path)


def _make_episode(folder: Path, spec: Spec, number: int, before: dict[str, dict[str, Any]]) -> Episode:
    label = f"{spec.seed}/episode/{number}" + ("/revised" if number in spec.revise else "")
    kind = ("mp3", "wav")[number % 2 == 0] if spec.media == "mixed" else spec.media
    name, title, when = f"ep{number:04d}", title_of(spec, number), published_at(spec, number)
    swing = (number_from(f"{label}/size", 2001) / 1000 - 1) * spec.vary / 100
    size = round(spec.megabytes * 1_000_000 * (1 + swing)) // 2 * 2
    tag = {"TIT2": title_of(replace(spec, retitle=frozenset()), number), "TALB": spec.title}
    tag |= {"TRCK": str(number), "TYER": f"{when:%Y}"}
    speech = f"{spec.title}. Episode {number}. {paragraph(label, 3)}" if spec.speech else ""
    recipe = hashlib.sha256(repr((label, kind, size, spec.bitrate, tag, speech)).encode()).hexdigest()

    path = folder / "media" / f"{name}.{kind}"
    old = before.get(f"media/{path.name}", {})
    if old.get("recipe") == recipe and path.is_file() and path.stat().st_size == size:
        digest, seconds = old["sha256"], old["seconds"]
    else:
        media = wav_file(label, size) if kind == "wav" else mp3_file(label, size, spec.bitrate, tag, speech)
        touched = when + timedelta(minutes=spec.revision if number in spec.revise else 0)
        digest, seconds = _write_media(path, media, touched), round(media.seconds, 3)

    write_whole(folder / f"images/{name}.png", png(f"{label}/image", max(8, spec.cover_side // 4)), when)
    write_whole(folder / f"chapters/{name}.json", chapters_json(spec, label, seconds), when)
    write_whole(folder / f"transcripts/{name}.vtt", transcript_vtt(label, seconds), when)
    return Episode(
        number=number,
        guid=guid_of(spec, number),
        title=title,
        path=f"media/{path.name}",
        type=TYPES[path.suffix],
        bytes=size,
        sha256=digest,
        seconds=seconds,
        published=when.isoformat(),
        chapters=f"chapters/{name}.json",
        transcript=f"transcripts/{name}.vtt",
        image=f"images/{name}.png",
        recipe=recipe,
    )


def _write_media(path: Path, media: Media, when: datetime) -> str:
    digest = hashlib.sha256()
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as out:
        for piece in media.pieces:
            digest.update(piece)
            out.write(piece)
    _finish(draft, path, when)
    return digest.hexdigest()


def guid_of(spec: Spec, number: int) -> str:
    """A guid in one of the shapes seen in the wild; it never changes for an episode."""
    label = f"{spec.seed}/guid/{number}"
    made = uuid.uuid5(PODCAST_NAMESPACE, label)
    shapes = (
        str(made),
        f"urn:uuid:{made}",
        f"tag:podcast.example,2024:{number}",
        f"Buzzsprout-{made.int % 10**8}",
    )
    return pick(label, shapes)


def chapters_json(spec: Spec, label: str, seconds: float) -> bytes:
    """Podcasting 2.0 chapters."""
    marks = range(0, max(1, int(seconds)), max(1, int(seconds) // 5 or 1))
    chapters = [
        {"startTime": at, "title": paragraph(f"{label}/chapter/{at}", 1), "img": f"{spec.base_url}/cover.png"}
        for at in marks
    ]
    return json.dumps({"version": "1.2.0", "chapters": chapters}, indent=1).encode()


def transcript_vtt(label: str, seconds: float) -> bytes:
    """A WebVTT transcript with a cue every ten seconds."""
    lines = ["WEBVTT", ""]
    for at in range(0, max(1, int(seconds)), 10):
        lines.append(f"{clock(at)}.000 --> {clock(at + 9)}.000")
        lines += [f"<v Speaker {1 + at // 10 % 2}>{paragraph(f'{label}/cue/{at}', 1)}", ""]
    return "\n".join(lines).encode()


def missing_episodes(folder: Path, found: Path, newest: int | None = None) -> list[dict[str, Any]]:
    """The episodes in the feed whose exact bytes are in no file below `found`."""
    manifest = json.loads((folder / "manifest.json").read_text())
    wanted = [entry for entry in manifest["episodes"] if entry["number"] not in manifest["dropped"]]
    wanted = wanted[-newest:] if newest else wanted
    sizes = {entry["bytes"] for entry in wanted}
    have = set()
    for path in found.rglob("*"):
        if path.is_file() and path.stat().st_size in sizes:
            with path.open("rb") as source:
                have.add(hashlib.file_digest(source, "sha256").hexdigest())
    return [entry for entry in wanted if entry["sha256"] not in have]
