"""Ranges of keys, and the sub-databases that share one Hyperbee by a prefix.

Keys compare as unsigned bytes, a prefix before what it begins.
Source: sub-encoder index.js, hyperbee index.js ``sub``; spec/06-drive, "Keys".
"""

from dataclasses import dataclass
from typing import Final

SEPARATOR: Final = b"\x00"
_BEHIND_SEPARATOR: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Which keys; ``None`` is an open end, an empty key is a real bound."""

    gt: bytes | None = None
    gte: bytes | None = None
    lt: bytes | None = None
    lte: bytes | None = None

    def __post_init__(self) -> None:
        if None not in (self.gt, self.gte) or None not in (self.lt, self.lte):
            raise ValueError("a range has one lower and one upper bound")

    def __contains__(self, key: bytes) -> bool:
        return not self.is_above(key) and not self.is_below(key)

    def is_above(self, key: bytes) -> bool:
        """Whether the whole range is above a key, which is too small."""
        if self.gte is not None:
            return key < self.gte
        return self.gt is not None and key <= self.gt

    def is_below(self, key: bytes) -> bool:
        """Whether the whole range is below a key, which is too large."""
        if self.lt is not None:
            return key >= self.lt
        return self.lte is not None and key > self.lte


EVERYTHING: Final = KeyRange()


@dataclass(frozen=True, slots=True)
class Sub:
    """A sub-database: its keys are ``name 00 key``, those of a nested one ``outer 00 name 00 key``."""

    prefix: bytes  # ends with the separator

    @classmethod
    def named(cls, *names: bytes) -> "Sub":
        """The sub of this name, or nested ones from the outermost inwards; no name is the whole bee."""
        return cls(b"".join(name + SEPARATOR for name in names))

    def key(self, key: bytes) -> bytes:
        """A key as it stands in the bee."""
        return self.prefix + key

    def strip(self, key: bytes) -> bytes:
        """The inverse of ``key``."""
        if not key.startswith(self.prefix):
            raise ValueError("key of another sub-database")
        return key[len(self.prefix) :]

    def range(self, keys: KeyRange = EVERYTHING) -> KeyRange:
        """A range as it stands in the bee, by the rule of ``SubEncoder``, which drives use."""
        return self._range(keys, KeyRange(gte=self.prefix))

    def inner_range(self, keys: KeyRange = EVERYTHING) -> KeyRange:
        """The same by the rule of ``bee.sub``: without a lower bound, the keys '' and 00 are left out."""
        return self._range(keys, KeyRange(gt=self.prefix + SEPARATOR))

    def _range(self, keys: KeyRange, lowest: KeyRange) -> KeyRange:
        if not self.prefix:
            return keys
        gt, gte = self._put(keys.gt), self._put(keys.gte)
        lt, lte = self._put(keys.lt), self._put(keys.lte)
        if gt is None and gte is None:
            gt, gte = lowest.gt, lowest.gte
        if lt is None and lte is None:
            lt = self.prefix[: -len(SEPARATOR)] + _BEHIND_SEPARATOR
        return KeyRange(gt, gte, lt, lte)

    def _put(self, key: bytes | None) -> bytes | None:
        return None if key is None else self.prefix + key
