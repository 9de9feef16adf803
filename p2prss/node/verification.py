"""Reading a feed's stored blocks back, and checking them against the signed heads."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import trio

from p2prss.errors import P2prssError
from p2prss.log.checking import VerifyReport
from p2prss.node.events import Event, Progress
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import chosen, open_for_reading
from p2prss.node.open_feed import OpenFeed
from p2prss.node.saved_feeds import SavedFeed

Emit = Callable[[Event], None]


class VerifyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a feed back showed; ``damaged_files`` are paths in the drive."""

    key: str
    slug: str
    ok: bool
    blocks: int
    bytes: int
    damaged_blocks: int
    damaged_files: tuple[str, ...]
    problem: str | None


async def verify_feeds(home: HomePaths, text: str | None, emit: Emit) -> Sequence[VerifyResult]:
    """Read one feed's stored blocks back, or all feeds', and check them against the signed heads."""
    if text is None and not home.exists:
        return []
    async with open_for_reading(home) as (saved, opener, _):
        found = []
        for feed in chosen(saved, text):
            try:
                found.append(await _verify(await opener.open(feed, eager=False), emit))
            except P2prssError as error:  # the others are looked at all the same
                found.append(_unreadable(feed, str(error)))
        return found


def _unreadable(feed: SavedFeed, problem: str) -> VerifyResult:
    return VerifyResult(
        key=feed.key,
        slug=feed.slug,
        ok=False,
        blocks=0,
        bytes=0,
        damaged_blocks=0,
        damaged_files=(),
        problem=problem,
    )


async def _verify(feed: OpenFeed, emit: Emit) -> VerifyResult:
    problems: list[str] = []
    files: list[str] = []
    damaged = size = 0
    blobs = await feed.blobs() if feed.db.length and feed.db.has(0) else None
    for core in feed.cores:

        def progress(done: int, total: int) -> None:
            trio.from_thread.run_sync(
                emit,
                Progress(
                    key=feed.saved.key, what=f"checking {feed.title}", done=done, total=total, unit="blocks"
                ),
            )

        report = await trio.to_thread.run_sync(core.log.verify, progress)
        size += report.checked_bytes
        if not report.clean:
            damaged += len(report.corrupt_blocks)
            problem = _words(report)
            if core is blobs and (found := await _files_with(feed, report.corrupt_blocks)):
                files += found
                problem += f", in {await _title_of(feed, found[0])}"
                problem += f" and {len(found) - 1} more files" if len(found) > 1 else ""
            problems.append(problem)
    return VerifyResult(
        key=feed.saved.key,
        slug=feed.slug,
        ok=not problems,
        blocks=sum(core.held_total for core in feed.cores),
        bytes=size,
        damaged_blocks=damaged,
        damaged_files=tuple(files),
        problem="; ".join(problems) or None,
    )


async def _files_with(feed: OpenFeed, blocks: Sequence[int]) -> list[str]:
    """The files that hold some of these blocks; none where the drive's entries can't be read."""
    found: list[str] = []
    with suppress(P2prssError):
        blobs = await feed.drive.blobs()
        async for entry in feed.drive.entries():
            ranges = await blobs.blocks(entry.blob) if entry.blob is not None else []
            if any(bisect_left(blocks, start) < bisect_left(blocks, stop) for start, stop in ranges):
                found.append(entry.path)
    return found


async def _title_of(feed: OpenFeed, path: str) -> str:
    """The episode a file belongs to, else its path."""
    with suppress(P2prssError):
        for item in await feed.archive.items():
            if path == item.path or any(asset.path == path for asset in item.assets):
                return f"{item.title!r}"
    return path


def _words(report: VerifyReport) -> str:
    """What is wrong, in a few words."""
    wrong = []
    if report.corrupt_blocks:
        count = len(report.corrupt_blocks)
        wrong.append(f"{count} blocks fail their hash" if count > 1 else "a block fails its hash")
    if report.corrupt_nodes:
        wrong.append(f"{len(report.corrupt_nodes)} nodes of the tree are wrong")
    if not report.head_valid:
        wrong.append("the signature does not fit")
    return ", ".join(wrong)
