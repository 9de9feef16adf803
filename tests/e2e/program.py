"""The installed ``p2prss`` command as a subprocess: its events, its exit code, its last words.

Everything is bounded: a wait that takes too long fails with what the program said so far.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import trio

PROGRAM: Final = Path(sys.executable).with_name("p2prss")
EVENT_SECONDS: Final = 40.0  # to wait for an event: a busy machine is slow
EXIT_SECONDS: Final = 90.0  # for a command that ends by itself
STOP_SECONDS: Final = 10.0  # promised after SIGINT and SIGTERM

# Members that every event of a name has; more may be there. Other names may be added over time.
MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "ready": frozenset({"key", "link", "feed_url", "http", "listen"}),
    "published": frozenset({"key", "version", "episodes", "media_files", "bytes"}),
    "waiting": frozenset({"key", "next_look", "seconds"}),
    "synced": frozenset({"key", "version", "episodes", "media_files", "bytes"}),
    "progress": frozenset({"key", "what", "done", "total"}),
    "withdrawn": frozenset({"key", "title", "version"}),
    "error": frozenset({"code", "message"}),
    "notice": frozenset({"message"}),
}

# Commands that run a node; without these options they would look for others by multicast, and in the DHT.
NODES: Final = ("publish", "follow", "seed", "up", "unpublish")
NO_LAN: Final = "--no-lan"
NO_DHT: Final = "--no-dht"
BOOTSTRAP: Final = "--bootstrap"  # of a private DHT: whoever names one may use it

Line = dict[str, Any]


def read_line(text: str) -> Line:
    """One line of ``--json``, with all that it must hold."""
    line = json.loads(text)
    assert isinstance(line, dict), text
    if "event" in line:
        assert line["event"] in MEMBERS, text
        assert line.keys() >= MEMBERS[line["event"]], text
    return line


def command_words(arguments: Sequence[str | Path], *, lan: bool) -> tuple[str, ...]:
    """The words of a command, kept away from the public DHT; and unless ``lan`` is asked for, from this
    machine's network."""
    words = tuple(map(str, arguments))
    if not words or words[0] not in NODES:
        return words
    quiet = [*([] if BOOTSTRAP in words else [NO_DHT]), *([] if lan else [NO_LAN])]
    return (words[0], *quiet, *words[1:])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without what could lead the program to a home or a proxy of the user."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("P2PRSS_", "XDG_")) and "proxy" not in name.lower()
    }
    return kept | {"COLUMNS": "100", "NO_COLOR": "1"} | dict(extra or {})


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[Line]:
        """All lines of ``--json``."""
        return [read_line(text) for text in self.stdout.splitlines()]

    def events(self, name: str) -> list[Line]:
        """The events of that name."""
        return [line for line in self.lines if line.get("event") == name]

    def event(self, name: str) -> Line:
        """The only event of that name."""
        (event,) = self.events(name)
        return event

    @property
    def error(self) -> str:
        """The one line on stderr that names the cause."""
        (line,) = self.stderr.splitlines()
        assert line.startswith("p2prss: "), line
        return line.removeprefix("p2prss: ")


class Program:
    """A running ``p2prss --json``; made by ``running``."""

    def __init__(self, process: trio.Process, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.lines: list[Line] = []
        self.process = process
        self._stderr = bytearray()
        self._stdout = bytearray()
        self._seen: dict[str, int] = {}
        self._news = trio.Event()
        self._readers = 2

    @property
    def stderr(self) -> str:
        """What it said to people until now."""
        return self._stderr.decode(errors="replace")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def events(self, name: str) -> list[Line]:
        """The events of that name until now."""
        return [line for line in self.lines if line.get("event") == name]

    async def event(
        self,
        name: str,
        *,
        seconds: float = EVENT_SECONDS,
        where: Callable[[Line], bool] = lambda _: True,
        **members: object,
    ) -> Line:
        """The next event of that name (after the one that was waited for last) with these members."""
        with trio.move_on_after(seconds):
            while True:
                for place in range(self._seen.get(name, 0), len(self.lines)):
                    line = self.lines[place]
                    if line.get("event") == name and members.items() <= line.items() and where(line):
                        self._seen[name] = place + 1
                        return line
                if not self._readers:
                    break
                await self._news.wait()
        raise AssertionError(f"no event {name} {members or ''} of {self}")

    async def line(self, *, seconds: float = EVENT_SECONDS) -> Line:
        """The first line it writes."""
        with trio.move_on_after(seconds):
            while self._readers and not self.lines:
                await self._news.wait()
        assert self.lines, self
        return self.lines[0]

    async def wait(self, *, seconds: float = EXIT_SECONDS) -> Finished:
        """How it ends by itself."""
        with trio.move_on_after(seconds):
            await self.process.wait()
            while self._readers:
                await self._news.wait()
            assert self.process.returncode is not None
            out = self._stdout.decode()
            return Finished(self.arguments, self.process.returncode, out, self.stderr)
        raise AssertionError(f"still running after {seconds} s: {self}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> Finished:
        """End it as a user or a service manager does, and see that it ends in time and in order."""
        self.process.send_signal(number)
        finished = await self.wait(seconds=STOP_SECONDS)
        assert finished.code == 128 + number, self
        assert "Traceback" not in finished.stderr, finished.stderr
        return finished

    async def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        await self.process.wait()

    async def read(self) -> None:
        """Read both streams to their ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_stdout)
            nursery.start_soon(self._read_stderr)

    async def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            self._stdout += data
            *complete, rest = (rest + data).split(b"\n")
            self.lines += [read_line(text.decode()) for text in complete]
            self._tell()
        assert not rest, rest
        self._readers -= 1
        self._tell()

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self._stderr += data
        self._readers -= 1
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def __str__(self) -> str:
        last = [json.dumps(line, ensure_ascii=False) for line in self.lines[-12:]]
        code = self.process.returncode
        return "\n".join([f"p2prss {' '.join(self.arguments)} (exit code {code})", *last, self.stderr])


class Start(Protocol):
    """Starts a program that is stopped, and must stop well, when the test ends."""

    async def __call__(
        self,
        *arguments: str | Path,
        home: Path,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Program: ...


@asynccontextmanager
async def running(
    *arguments: str | Path,
    home: Path,
    prefix: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    lan: bool = False,
) -> AsyncIterator[Program]:
    """A program that runs until the block ends; then it is stopped, unless it has ended."""
    words = command_words(arguments, lan=lan)
    command = [*prefix, str(PROGRAM), "--home", str(home), "--json", *words]
    open_process = partial(
        trio.lowlevel.open_process,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(environ),
    )
    async with trio.open_nursery() as nursery:
        program = Program(await open_process(command), words)
        nursery.start_soon(program.read)
        try:
            yield program
            if program.process.returncode is None:
                await program.stop()
        finally:
            if program.process.returncode is None:
                program.process.kill()
            with trio.CancelScope(shield=True):
                await program.process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + 1.0  # for what is left in the pipes


async def run(
    *arguments: str | Path,
    home: Path | None = None,
    code: int = 0,
    as_json: bool = True,
    seconds: float = EXIT_SECONDS,
    prefix: Sequence[str] = (),
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
    lan: bool = False,
) -> Finished:
    """Run a command that ends by itself; it must end with that code."""
    words = command_words(arguments, lan=lan)
    command = [*prefix, str(PROGRAM), *(["--home", str(home)] if home else [])]
    command += [*(["--json"] if as_json else []), *words]
    with trio.fail_after(seconds):
        done = await trio.run_process(
            command,
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(environ),
        )
    finished = Finished(words, done.returncode, done.stdout.decode(), done.stderr.decode())
    said = f"{command}: exit code {finished.code}\n{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"
    assert finished.code == code, said
    assert "Traceback" not in finished.stderr, said
    if as_json:
        assert isinstance(finished.lines, list)  # reads, and so checks, every one
    return finished


async def fetch(url: str, **headers: str) -> httpx.Response:
    """GET as an app does; header names are written with ``_`` for ``-``."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.get(url, headers={name.replace("_", "-"): text for name, text in headers.items()})
