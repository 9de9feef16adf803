"""Dates on the command line: a day, or a time of day."""

from datetime import UTC, datetime, time

from p2prss.errors import UsageError


def parse_moment(text: str | None, *, option: str, ends: bool) -> datetime | None:
    """``2025-01-31`` or ``2025-01-31T08:00`` (UTC unless it says otherwise) as a time.

    Args: ends: a day without a time is its end, else its beginning.
    Raises: UsageError.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text[:50]!r}: write a day as 2025-01-31, or a time as 2025-01-31T08:00"
        ) from None
    if len(text) <= len("2025-01-31") and ends:
        when = datetime.combine(when.date(), time.max)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
