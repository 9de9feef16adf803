"""Content codings: which one a client wants, and bytes in it; pure.

Only texts of ours are coded, never media: podcast apps compare what they got with Content-Length.

Source: RFC 9110 §8.4.1 (codings), §12.4.2 (weights), §12.5.3 (Accept-Encoding); RFC 7932 (br).
"""

import re
import zlib
from enum import StrEnum
from typing import Final

import brotli  # type: ignore[import-untyped]  # it has no stubs

GZIP_LEVEL: Final = 5
BROTLI_LEVEL: Final = 5  # of 11: smaller than gzip in about the same time

_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib's sign for a gzip header and trailer
_WEIGHT: Final = re.compile(r"q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class Coding(StrEnum):
    """A coding; its value is what stands in Content-Encoding."""

    BROTLI = "br"
    GZIP = "gzip"
    IDENTITY = "identity"


_NAMES: Final = {"br": Coding.BROTLI, "gzip": Coding.GZIP, "x-gzip": Coding.GZIP, "identity": Coding.IDENTITY}


def choose_coding(header: str | None) -> Coding:
    """The coding that an Accept-Encoding likes best; of equals the one that makes it smallest.

    ``*`` stands for what is not named, but not for Brotli: who can read that says so. Without the header
    plain bytes are the safe answer, and so they are where nothing that we have is wanted. A weight that
    is none counts as 0.
    """
    weights: dict[Coding, float] = {}
    others = 0.0
    for part in (header or "").lower().split(","):
        name, _, parameters = part.partition(";")
        found = _WEIGHT.fullmatch(parameters.strip())
        weight = float(found[1]) if found else 0.0 if parameters.strip() else 1.0
        if name.strip() == "*":
            others = weight
        elif (coding := _NAMES.get(name.strip())) is not None:
            weights[coding] = max(weight, weights.get(coding, 0.0))
    liked = {
        Coding.BROTLI: weights.get(Coding.BROTLI, 0.0),
        Coding.GZIP: weights.get(Coding.GZIP, others),
    }
    best = max(liked, key=lambda coding: liked[coding])
    return best if liked[best] > 0 and liked[best] >= weights.get(Coding.IDENTITY, 0.0) else Coding.IDENTITY


def encode(data: bytes, coding: Coding) -> bytes:
    """``data`` in a coding; the same bytes for the same data."""
    match coding:
        case Coding.BROTLI:
            return bytes(brotli.compress(data, quality=BROTLI_LEVEL))
        case Coding.GZIP:
            packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
            return packer.compress(data) + packer.flush()
        case Coding.IDENTITY:
            return data


def gunzip(data: bytes) -> bytes:
    """What ``encode`` made with gzip, as it was."""
    return zlib.decompress(data, _GZIP)
