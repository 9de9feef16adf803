"""Audio and pictures of exactly the size asked for."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tools.podcast.noise import blocks_of_noise, noise

TYPES = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/x-wav",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".mp4": "video/mp4",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".xml": "application/rss+xml",
    ".rss": "application/rss+xml",
    ".atom": "application/atom+xml",
    ".json": "application/json",
    ".vtt": "text/vtt",
    ".srt": "application/srt",
    ".html": "text/html",
    ".txt": "text/plain",
}

MP3_RATE = 48_000
MP3_SAMPLES = 1_152
MP3_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
WAV_RATE = 16_000


@dataclass
class Media:
    """An audio file that is about to be written."""

    pieces: Iterable[bytes]
    seconds: float


def mp3_frame_size(kbps: int) -> int:
    """Bytes of a frame; at 48 kHz never a fraction, so the stream needs no padding bit."""
    return 3 * kbps


def mp3_frame_head(kbps: int) -> bytes:
    """Header and side information of a mono MPEG-1 layer III frame that holds no audio data."""
    index = MP3_BITRATES.index(kbps) + 1
    return bytes((0xFF, 0xFB, index << 4 | 1 << 2, 0xC4)) + bytes(17)


def mp3_frames(label: str, kbps: int, count: int) -> Iterator[bytes]:
    """`count` silent frames filled with noise (without 0xFF, which could look like a header)."""
    head = mp3_frame_head(kbps)
    fill = mp3_frame_size(kbps) - len(head)
    for raw in blocks_of_noise(label):
        block = raw.replace(b"\xff", b"\x7f")
        here = min(count, len(block) // fill)
        yield b"".join(head + block[at * fill : (at + 1) * fill] for at in range(here))
        count -= here
        if not count:
            return


def mp3_info_frame(kbps: int, frames: int, size: int) -> bytes:
    """The first frame of a stream: says how many frames and bytes there are, so players can seek."""
    head = mp3_frame_head(kbps) + b"Info" + struct.pack(">III", 3, frames, size)
    return head.ljust(mp3_frame_size(kbps), b"\0")


def id3_tag(texts: dict[str, str], padding: int) -> bytes:
    """An ID3v2.3 tag with text frames and that many zero bytes behind them."""
    body = b""
    for name, text in texts.items():
        data = b"\1" + text.encode("utf-16")
        body += name.encode() + struct.pack(">IH", len(data), 0) + data
    size = len(body) + padding
    synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + synchsafe + body + bytes(padding)


def id3_size(start: bytes) -> int:
    """Bytes of the ID3v2 tag that a file starts with; 0 where it has none."""
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    size = 0
    for byte in start[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def spoken_frames(text: str, kbps: int) -> bytes:
    """The text as speech in MP3 frames of our form; empty where the programs for it are missing."""
    if not (shutil.which("espeak-ng") and shutil.which("ffmpeg")):
        return b""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-s", "160", "-w", str(wav), "--", text], check=True)
        encode = f"-ar {MP3_RATE} -ac 1 -c:a libmp3lame -b:a {kbps}k -reservoir 0 -write_xing 0"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(wav), "-map_metadata", "-1"]
        command += [*encode.split(), "-fflags", "+bitexact", "-id3v2_version", "0", "-f", "mp3", "-"]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return out[: len(out) // mp3_frame_size(kbps) * mp3_frame_size(kbps)]


def mp3_file(label: str, size: int, kbps: int, texts: dict[str, str], speech: str) -> Media:
    """An MP3 of exactly `size` bytes, with speech at its start where there is some."""
    frame = mp3_frame_size(kbps)
    room = size - len(id3_tag(texts, 0)) - frame
    spoken = spoken_frames(speech, kbps) if speech else b""
    spoken = spoken[: max(0, room // frame) * frame]
    count = room // frame - len(spoken) // frame
    if room // frame < 1:
        raise SystemExit(f"an episode of {size} bytes is too small for an MP3; ask for more --mb")
    frames = count + len(spoken) // frame
    head = id3_tag(texts, room % frame) + mp3_info_frame(kbps, frames, (frames + 1) * frame)
    silent = mp3_frames(label, kbps, count) if count else iter(())
    return Media(itertools.chain([head, spoken], silent), frames * MP3_SAMPLES / MP3_RATE)


def wav_file(label: str, size: int) -> Media:
    """A mono 16-bit WAV of exactly `size` bytes (which must be even) full of noise."""
    data = size - 44
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, WAV_RATE, 2 * WAV_RATE, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", size - 8, b"WAVE") + form + struct.pack("<4sI", b"data", data)
    return Media(itertools.chain([head], noise(label, data)), data / (2 * WAV_RATE))


def png(label: str, side: int) -> bytes:
    """A square RGB image of diagonal stripes, in colours that depend on the label."""
    colours = [hashlib.sha256(f"{label}/{at}".encode()).digest()[:3] for at in range(4)]
    stripe = max(1, side // 16)
    line = b"".join(colours[at // stripe % 4] for at in range(side + 4 * stripe))
    rows = b"".join(b"\0" + line[3 * (y % (4 * stripe)) :][: 3 * side] for y in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
