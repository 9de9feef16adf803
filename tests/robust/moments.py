"""When to kill a program: moments that, over many kills, fall into every phase of its work."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from tests.e2e.program import Program

POLL_SECONDS = 0.001
LAST_RESORT_SECONDS = 20.0  # a moment that never comes is passed over then


@dataclass(frozen=True)
class Moment:
    """What has to have happened, and how long after it the program dies."""

    kind: str  # "start", "line", "bytes", "write"
    count: float
    delay: float  # seconds

    @classmethod
    def pick(cls, random: Random) -> "Moment":
        """One of all there are, by chance."""
        kind = random.choice(("start", "line", "bytes", "bytes", "write", "write"))
        if kind == "start":
            return cls(kind, 0, random.uniform(0.2, 1.2))
        if kind == "line":
            return cls(kind, random.randint(1, 8), random.uniform(0, 0.02))
        if kind == "bytes":
            return cls(kind, random.random(), random.uniform(0, 0.01))
        return cls(kind, random.randint(1, 25), random.choice((0, 0, random.uniform(0, 0.005))))

    async def wait(self, program: Program, home: Path, total_bytes: int) -> bool:
        """Wait for it. Returns: False when the program has ended before."""
        with trio.move_on_after(LAST_RESORT_SECONDS):
            if self.kind == "line":
                await self._until(program, lambda: len(program.lines) >= self.count)
            elif self.kind == "bytes":
                before = data_bytes(home)
                wanted = before + 1 + self.count * max(total_bytes - before, total_bytes / 4)
                await self._until(program, lambda: data_bytes(home) >= wanted)
            elif self.kind == "write":
                await self._count_writes(program, home)
            await trio.sleep(self.delay)
        return program.process.returncode is None

    async def _count_writes(self, program: Program, home: Path) -> None:
        """So many times the database's log has changed, hence a commit is under way or just over."""
        log, seen, changes = home / "store.sqlite-wal", (0, 0), 0

        def changed() -> bool:
            nonlocal seen, changes
            try:
                stat = log.stat()
            except FileNotFoundError:
                return False
            if seen != (stat.st_mtime_ns, stat.st_size):
                seen, changes = (stat.st_mtime_ns, stat.st_size), changes + 1
            return changes >= self.count

        await self._until(program, changed)

    async def _until(self, program: Program, condition: Callable[[], bool]) -> None:
        while program.process.poll() is None and not condition():  # noqa: ASYNC110 - it watches files
            await trio.sleep(POLL_SECONDS)


def data_bytes(home: Path) -> int:
    """Bytes in the data files of a home, whether they count already or not."""
    total = 0
    for folder in (home / "cores").glob("*"):
        try:
            total += os.stat(folder / "data").st_size  # noqa: PTH116 - a thousand times a second
        except FileNotFoundError:
            continue
    return total
