"""A small internet with a public DHT, and peers of both implementations behind boxes of all kinds.

Making it needs root (or ``sudo`` without a password), ``ip`` of iproute2, and /dev/net/tun.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

REPOSITORY: Final = Path(__file__).parents[3]
PEER_JS: Final = Path(__file__).with_name("peer.js")
PORT: Final = 49737  # of the public nodes
PUBLIC_NODES: Final = 16
RELAY_HOST: Final = "5.4.0.1"
SECONDS: Final = 90.0  # for one command to a peer
KINDS: Final[dict[str, tuple[str, ...]]] = {  # what is in front of a host, from inside out
    "open": (),
    "firewall": ("firewall",),
    "steady": ("steady",),
    "random": ("random",),
    "double": ("steady", "steady"),
    "double-random": ("steady", "random"),
    "lan": ("steady",),  # client and server behind the same one
    "carrier": ("steady", "carrier"),  # each at home, both behind the same NAT of their provider
}
IMPLEMENTATIONS: Final = ("p2prss", "js")


class BedMissing(Exception):
    """It cannot be made here; the text says why."""


class PeerError(Exception):
    """A peer's command failed; the text is its reason."""


class Talker:
    """A child process that reads commands and writes answers, one JSON line each."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._buffer = b""
        self._number = 0

    async def read(self) -> Any:
        """The next line. Raises: PeerError when there is none."""
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            chunk = await self.process.stdout.receive_some()
            if not chunk:
                raise PeerError("the process has ended")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def write(self, line: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode() + b"\n")

    async def call(self, name: str, **members: object) -> Any:
        """Do a command. Raises: PeerError with what went wrong."""
        self._number += 1
        await self.write(json.dumps({"id": self._number, "do": name, **members}))
        with trio.move_on_after(SECONDS):
            answer = await self.read()
            if "error" in answer:
                raise PeerError(answer["error"])
            return answer["ok"]
        raise PeerError("no answer")


class Bed:
    """A running internet. ``host`` names a host; ``peer`` starts a program there."""

    def __init__(self, prefix: str, internet: Talker) -> None:
        self._prefix = prefix
        self._internet = internet

    @property
    def bootstrap(self) -> str:
        return f"{_public_hosts()[0]}:{PORT}"

    async def statistics(self) -> dict[str, int]:
        """Packets sent, delivered, lost and so on, so far."""
        await self._internet.write("stats")
        counters: dict[str, int] = await self._internet.read()
        return counters

    @asynccontextmanager
    async def public_dht(self, implementation: str = "p2prss") -> AsyncIterator[None]:
        """Sixteen nodes with addresses of their own, in one process."""
        async with self.run(implementation, "public") as talker:
            await talker.call("public", hosts=_public_hosts(), port=PORT)
            yield

    @asynccontextmanager
    async def blind_relay(self) -> AsyncIterator[str]:
        """A blind relay of the reference, on a host of its own; gives its key."""
        async with self.peer("js", "relay") as talker:
            yield (await talker.call("relay"))["key"]

    @asynccontextmanager
    async def peer(
        self, implementation: str, host: str, *, relay: str | None = None
    ) -> AsyncIterator[Talker]:
        """A peer that has joined the DHT. Args: relay: the key of a blind relay it proposes to others."""
        async with self.run(implementation, host) as talker:
            await talker.call("start", bootstrap=self.bootstrap, relay=relay)
            yield talker

    @asynccontextmanager
    async def run(self, implementation: str, host: str) -> AsyncIterator[Talker]:
        words = (
            ["node", str(PEER_JS)] if implementation == "js" else [sys.executable, "-m", "tests.net.nat.peer"]
        )
        async with talk([*_as_root(), "ip", "netns", "exec", f"{self._prefix}{host}", *words]) as talker:
            yield talker


@asynccontextmanager
async def open_bed(
    kinds: Iterable[str], *, delay: float = 0.01, jitter: float = 0.0, loss: float = 0.0, seed: int = 1
) -> AsyncIterator[Bed]:
    """An internet with hosts ``client-KIND`` and ``server-KIND`` for each kind, ``public`` and ``relay``.

    Args: delay: seconds one way, between any two networks; jitter: up to so much more; loss: a share.
    Raises: BedMissing.
    """
    if not _has_tools():
        raise BedMissing("the command ip of iproute2, or /dev/net/tun, is missing")
    prefix = f"p2prss-{os.getpid()}-"
    plan = {"prefix": prefix, "seed": seed, "delay": delay, "jitter": jitter, "loss": loss, **_layout(kinds)}
    async with talk([*_as_root(), sys.executable, "-m", "tests.net.nat.internet"]) as internet:
        await internet.write(json.dumps(plan))
        try:
            answer = await internet.read()
        except PeerError as error:
            raise BedMissing(str(error)) from error
        if "error" in answer:
            raise BedMissing(answer["error"])
        yield Bed(prefix, internet)


def _layout(kinds: Iterable[str]) -> dict[str, Any]:
    hosts: list[dict[str, Any]] = [
        {"name": "public", "addresses": _public_hosts(), "boxes": []},
        {"name": "relay", "addresses": [RELAY_HOST], "boxes": []},
    ]
    boxes: dict[str, tuple[str, str | None]] = {}
    for number, (kind, role) in enumerate((kind, role) for kind in kinds for role in ("client", "server")):
        chain = KINDS[kind]
        shared = {"lan": 0, "carrier": 1}.get(kind)  # the depth of the box both are behind
        names = [f"{kind if d == shared else f'{role}-{kind}'}-{d}" for d in range(len(chain))]
        for depth, (name, box) in enumerate(zip(names, chain, strict=True)):
            outermost = depth == len(chain) - 1
            public = f"5.3.{number}.1" if outermost else f"100.64.{number}.2"
            boxes.setdefault(name, (box, None if box == "firewall" else public))
        hidden = bool(chain) and chain != ("firewall",)
        address = f"192.168.{number if kind != 'lan' else 99}.{number + 2}" if hidden else f"5.2.{number}.1"
        hosts.append({"name": f"{role}-{kind}", "addresses": [address], "boxes": names})
    return {"hosts": hosts, "boxes": boxes}


def _has_tools() -> bool:
    return shutil.which("ip") is not None and Path("/dev/net/tun").exists()


def _public_hosts() -> list[str]:
    return [f"5.0.{number}.1" for number in range(PUBLIC_NODES)]


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n", "--preserve-env"]


@asynccontextmanager
async def talk(words: list[str]) -> AsyncIterator[Talker]:
    """A process that ends with the block: its input is closed, and if that does not help it is killed."""
    process = await trio.lowlevel.open_process(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_end, process)
        yield Talker(process)


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(3.0):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
