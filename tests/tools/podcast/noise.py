"""Bytes and choices that depend on a label alone: the same on every machine."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BLOCK = 1 << 16


def blocks_of_noise(label: str) -> Iterator[bytes]:
    """Endless incompressible blocks, the same for the same label on every machine."""
    for number in itertools.count():
        yield hashlib.shake_256(f"{label}/{number}".encode()).digest(BLOCK)


def noise(label: str, size: int) -> Iterator[bytes]:
    """`size` bytes of noise, in pieces."""
    for block in blocks_of_noise(label):
        if size <= len(block):
            yield block[:size]
            return
        yield block
        size -= len(block)


def number_from(label: str, bound: int) -> int:
    """A number in range(bound) that depends on nothing but the label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8]) % bound


def pick(label: str, choices: Sequence[T]) -> T:
    """One of the choices, by the label alone."""
    return choices[number_from(label, len(choices))]
