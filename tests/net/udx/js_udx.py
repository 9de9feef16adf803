"""The reference's UDX in a process of its own, and a relay between two ports that loses packets."""

import heapq
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import trio

_HERE: Final = Path(__file__).parent
MODULES: Final = _HERE.parents[1] / "interop" / "node_modules" / "udx-native"
NODE: Final = shutil.which("node")
AVAILABLE: Final = NODE is not None and MODULES.is_dir()


class JsUdx:
    """``peer.js``: each call is one command, answered in any order."""

    def __init__(self, process: trio.Process, nursery: trio.Nursery) -> None:
        self._process = process
        self._waiting: dict[int, trio.Event] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._count = 0
        nursery.start_soon(self._read)

    @classmethod
    @asynccontextmanager
    async def open(cls, *command: str) -> AsyncIterator[Self]:
        """A running peer that ends with the block; another command must understand the same lines."""
        command = command or (NODE or "node", str(_HERE / "peer.js"))
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                yield cls(process, nursery)
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                    for pipe in (process.stdin, process.stdout):
                        if pipe is not None:
                            await trio.aclose_forcefully(pipe)
                nursery.cancel_scope.cancel()

    async def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Run one command."""
        self._count += 1
        number = self._count
        self._waiting[number] = trio.Event()
        line = json.dumps({"id": number, "do": what, **arguments}) + "\n"
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode())
        await self._waiting[number].wait()
        del self._waiting[number]
        answer = self._answers.pop(number)
        assert "failed" not in answer, answer
        return answer

    async def _read(self) -> None:
        assert self._process.stdout is not None
        held = b""
        try:
            async for chunk in self._process.stdout:
                *lines, held = (held + chunk).split(b"\n")
                for line in lines:
                    answer = json.loads(line)
                    self._answers[answer["id"]] = answer
                    self._waiting[answer["id"]].set()
        except trio.ClosedResourceError:
            pass


class LossyRelay:
    """Two UDP ports with a bad path between them; each stands for the other end.

    What comes to port ``a`` leaves from port ``b`` to the address set as ``to_b``, and the other way round.
    """

    def __init__(
        self, *, seed: int, loss: float = 0.0, delay: float = 0.0, late: float = 0.0, twice: float = 0.0
    ) -> None:
        self._random = Random(seed)
        self.loss, self.delay, self.late, self.twice = loss, delay, late, twice
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self.sockets:
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            one.bind(("127.0.0.1", 0))
        self.ports = [one.getsockname()[1] for one in self.sockets]
        self.targets: list[tuple[str, int] | None] = [None, None]
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self.carried = 0

    def close(self) -> None:
        """Give the ports back."""
        for one in self.sockets:
            one.close()

    def step(self) -> float:
        """Move everything that is due; returns seconds until something else is."""
        random, queue = self._random, self._queue
        for side in range(2):
            receive = self.sockets[side].recv
            try:
                for _ in range(128):
                    datagram = receive(65536)
                    if random.random() < self.loss:
                        continue
                    due = time.monotonic() + self.delay
                    if self.late and random.random() < self.late:
                        due += 0.01
                    for _ in range(2 if self.twice and random.random() < self.twice else 1):
                        self._count += 1
                        heapq.heappush(queue, (due, self._count, 1 - side, datagram))
            except OSError:
                pass
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, side, datagram = heapq.heappop(queue)
            target = self.targets[side]
            if target is not None:
                self.carried += 1
                with suppress(OSError):
                    self.sockets[side].sendto(datagram, target)
        return max(0.0, queue[0][0] - time.monotonic()) if queue else 1.0

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            pause = self.step()
            with trio.move_on_after(pause):
                async with trio.open_nursery() as nursery:

                    async def wait(
                        one: socket.socket, scope: trio.CancelScope = nursery.cancel_scope
                    ) -> None:
                        await trio.lowlevel.wait_readable(one)
                        scope.cancel()

                    for one in self.sockets:
                        nursery.start_soon(wait, one)
