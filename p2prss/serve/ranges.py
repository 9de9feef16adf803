"""Conditional and range requests: what a GET asks for, decided from its headers alone; pure.

A header that does not parse is ignored, as if it had not been sent: the answer is then the whole
representation, which is always correct. Several ranges are answered with the whole as well; no
podcast app asks for them, and multipart bodies are the classic amplification attack.

Source: RFC 9110 §13.1 (If-Match, If-None-Match, If-Range), §13.2.2 (order), §14.1.2 and §14.2 (Range).
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_HEADER_LENGTH: Final = 4096  # characters of a Range or If-None-Match worth reading
MAX_POSITION_DIGITS: Final = 18  # of a byte position: past any file, and below 2**63

_BYTE_RANGE: Final = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.ASCII | re.IGNORECASE)
_STRONG_TAG: Final = re.compile(r'(?<![^\s,])"[\x21\x23-\x7e\x80-\xff]*"')
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``stop`` of a representation of ``total`` bytes."""

    start: int
    stop: int
    total: int

    @property
    def byte_length(self) -> int:
        """How many bytes it covers."""
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        """The value of Content-Range in the 206 that answers it."""
        return f"bytes {self.start}-{self.stop - 1}/{self.total}"


class RangeNotSatisfiableError(ValueError):
    """A well-formed range of which the representation has not one byte: 416."""


def parse_range(header: str | None, total: int) -> ByteRange | None:
    """Read a Range header for a representation of ``total`` bytes.

    Returns: the part asked for, cut to what there is, or None where the whole is the answer: no
        header, another unit, no valid range, several ranges.
    Raises: RangeNotSatisfiableError when it starts behind the last byte, or asks for the last 0 bytes.
    """
    if header is None or len(header) > MAX_HEADER_LENGTH:
        return None
    found = _BYTE_RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if len(first) > MAX_POSITION_DIGITS or len(last) > MAX_POSITION_DIGITS or not (first or last):
        return None
    if not first:  # the last so many bytes
        wanted = int(last)
        if wanted == 0 or total == 0:
            raise RangeNotSatisfiableError
        return ByteRange(max(0, total - wanted), total, total)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= total:
        raise RangeNotSatisfiableError
    return ByteRange(start, min(int(last) + 1, total) if last else total, total)


def if_range_allows(header: str | None, etag: str) -> bool:
    """Whether a Range may be honoured: there is no If-Range, or it names this very representation.

    A weak tag or a date never matches: only a strong tag promises the same bytes, and we send no dates.
    """
    return header is None or header.strip() == etag


def if_match_fails(header: str | None, etag: str) -> bool:
    """Whether the client wants only a representation that is not ``etag``: 412.

    The comparison is strong. A header too long to be read counts as one that names others.
    """
    if header is None or header.strip() == "*":
        return False
    return len(header) > MAX_HEADER_LENGTH or etag not in _STRONG_TAG.findall(header)


def if_none_match_hits(header: str | None, *etags: str) -> bool:
    """Whether the client already holds one of the representations ``etags`` (quoted): 304.

    The comparison is weak, so that ``W/`` put in front by a proxy makes no difference.
    """
    if header is None or len(header) > MAX_HEADER_LENGTH:
        return False
    if header.strip() == "*":
        return True
    return any(tag in etags for tag in _ENTITY_TAG.findall(header))
