"""What the doctor finds: one check is one sentence about what is, and one about what to do."""

from collections.abc import Callable
from typing import Literal

import msgspec

from p2prss.errors import P2prssError, StorageError

Result = Literal["ok", "warning", "problem", "unknown"]
"""A warning is something to know; a problem keeps p2prss from working; unknown could not be looked at."""

Detail = str | int | float | bool | list[str] | None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. ``code`` is the exit code of a problem, else 0.

    ``details`` holds what a program may want to know; members are added over time.
    """

    name: str
    result: Result
    cause: str
    next_step: str = ""
    code: int = 0
    details: dict[str, Detail] = {}


def ok(name: str, cause: str, **details: Detail) -> Check:
    """All is well."""
    return Check(name=name, result="ok", cause=cause, details=details)


def unknown(name: str, cause: str, next_step: str = "") -> Check:
    """It could not be looked at, or there is nothing that could tell."""
    return Check(name=name, result="unknown", cause=cause, next_step=next_step)


def warning(name: str, cause: str, next_step: str, **details: Detail) -> Check:
    """Something to know."""
    return Check(name=name, result="warning", cause=cause, next_step=next_step, details=details)


def problem(name: str, error: type[P2prssError], cause: str, next_step: str, **details: Detail) -> Check:
    """Something that keeps p2prss from working; ``error`` is what a command would end with."""
    return Check(
        name=name, result="problem", cause=cause, next_step=next_step, code=error.exit_code, details=details
    )


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """What was found, or why nothing could be."""
    try:
        return look()
    except OSError as error:
        what = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename else ""
        return problem(
            name, StorageError, f"{where}{what}", "let the user who runs p2prss read and write there"
        )
