"""A picture for a show that has none: rings around a centre, their colours from its title.

Directories and apps want a square of at least 1400 pixels; as a PNG with a palette it has a few kilobytes.
"""

import struct
import zlib
from colorsys import hls_to_rgb
from hashlib import blake2b
from typing import Final

DRAWN_SIDE: Final = 1400  # pixels, the least that directories take
RING: Final = 140  # pixels from one ring to the next


def draw_cover(title: str) -> bytes:
    """A PNG; the same title always gives the same bytes."""
    seed = blake2b(title.encode("utf-8", "replace"), digest_size=4).digest()
    hue, centre_x, centre_y = seed[0] / 256, DRAWN_SIDE * seed[1] // 256, DRAWN_SIDE * seed[2] // 256
    colours = [hls_to_rgb(hue + place / 60, 0.32 + place / 24, 0.45) for place in range(10)]
    palette = bytes(round(part * 255) for colour in colours for part in colour)
    columns = [(x - centre_x) ** 2 for x in range(DRAWN_SIDE)]
    bounds = [(RING * place) ** 2 for place in range(1, 2 * DRAWN_SIDE // RING)]
    rows = bytearray()
    for y in range(DRAWN_SIDE):
        rows.append(0)
        rows += _row(columns, (y - centre_y) ** 2, bounds)
    header = struct.pack(">IIBBBBB", DRAWN_SIDE, DRAWN_SIDE, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _row(columns: list[int], height: int, bounds: list[int]) -> bytes:
    """One line of pixels: for each the number of its ring."""
    rings = bytearray(len(columns))
    place = 0
    for x, square in enumerate(columns):
        distance = square + height
        while place and distance < bounds[place - 1]:
            place -= 1
        while place < len(bounds) and distance >= bounds[place]:
            place += 1
        rings[x] = place % 10
    return bytes(rings)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
