"""Trying again: when, how often, and what an origin asks for."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long to wait for an origin that fails.

    A Retry-After above ``max_wait_seconds`` is not waited for: the fetch fails at once.
    """

    attempts: int = 4
    first_wait_seconds: float = 1.0  # doubles with every attempt
    max_wait_seconds: float = 120.0
    random: Random = field(default_factory=Random, repr=False)

    def wait_seconds(self, attempt: int) -> float:
        """The wait after an attempt, counted from 1: half of it is chance, so that clients spread out."""
        longest = min(self.first_wait_seconds * 2.0 ** (attempt - 1), self.max_wait_seconds)
        return longest * (0.5 + self.random.random() / 2)


class Retry(Exception):
    """An order of a download to itself: this attempt failed in a way that another may not."""

    def __init__(self, cause: str, *, wait_seconds: float | None = None, busy: bool = False) -> None:
        super().__init__(cause)
        self.wait_seconds = wait_seconds
        self.busy = busy


def retry_after(value: str) -> float | None:
    """The seconds that a Retry-After asks for, from a number or a date; None for anything else."""
    value = value.strip()[:100]
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
