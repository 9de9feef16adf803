"""Random sessions among peers of both kinds: whatever happened, at the end all have what the writer has.

One core, one writer, any links. Peers append, cut, clear, read, seek, download, come and go; the script of a
seed is always the same, its timing is not. A failure names seed and cast; more: ``SESSIONS=200 pytest …``.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Protocol

import pytest
import trio

from p2prss.errors import BlockUnavailableError, NoPeersError
from p2prss.net.core import PeerCore
from tests.conftest import StartJsPeer
from tests.interop.conftest import StartPythonPeer
from tests.interop.js_peer import JsPeer, JsPeerError
from tests.interop.python_peer import PythonPeer

pytestmark = pytest.mark.interop

_SESSIONS = int(os.environ.get("SESSIONS", "2"))  # for each cast
_STEPS = 40
_READ_SECONDS = 1.0  # for what may have become impossible
_END_SECONDS = 10.0  # for what must be possible
_CASTS = ["jp", "pj", "jpp", "pjp", "jpj"]  # the first one writes: j JavaScript, p p2prss

State = tuple[int, int, str]  # length, fork, tree hash


class Actor(Protocol):
    """What both kinds can do with the core."""

    port: int

    async def append(self, blocks: list[bytes]) -> None: ...
    async def truncate(self, length: int) -> None: ...
    async def clear(self, start: int, stop: int) -> None: ...
    async def get(self, index: int) -> bytes | None: ...
    async def download(self, start: int, stop: int) -> None: ...
    async def seek(self, byte_offset: int) -> tuple[int, int] | None: ...
    async def connect(self, port: int) -> None: ...
    async def disconnect(self) -> None: ...
    async def wait(self, length: int, fork: int) -> None: ...
    async def state(self) -> State: ...


class JsActor(Actor):
    def __init__(self, peer: JsPeer, key: str, port: int) -> None:
        self.peer, self.key, self.port = peer, key, port

    async def append(self, blocks: list[bytes]) -> None:
        await self.peer.append(self.key, blocks)

    async def truncate(self, length: int) -> None:
        await self.peer.truncate(self.key, length)

    async def clear(self, start: int, stop: int) -> None:
        """Not here: the reference drops nodes of the tree, too, while answers that need them are coming. It
        then holds all blocks, and does not find the one that a byte is in."""

    async def get(self, index: int) -> bytes | None:
        return await self.peer.get(self.key, index)

    async def download(self, start: int, stop: int) -> None:
        await self.peer.download(self.key, start, stop)

    async def seek(self, byte_offset: int) -> tuple[int, int] | None:
        found = await self.peer.seek(self.key, byte_offset)
        return (found.index, found.offset) if found else None

    async def connect(self, port: int) -> None:
        await self.peer.connect(port)

    async def disconnect(self) -> None:
        await self.peer.disconnect()

    async def wait(self, length: int, fork: int) -> None:
        await self.peer.wait_length(self.key, length, fork=fork)

    async def state(self) -> State:
        while True:
            try:
                info = await self.peer.core_info(self.key)
            except JsPeerError:  # the reference cannot compute the tree's hash while it changes its fork
                await trio.sleep(0.01)
            else:
                return info.length, info.fork, info.tree_hash


class PythonActor(Actor):
    def __init__(self, peer: PythonPeer, core: PeerCore, port: int) -> None:
        self.peer, self.core, self.port = peer, core, port

    async def append(self, blocks: list[bytes]) -> None:
        await self.core.append(blocks)

    async def truncate(self, length: int) -> None:
        await trio.to_thread.run_sync(self.core.log.truncate, length)
        self.core.session.log_changed()

    async def clear(self, start: int, stop: int) -> None:
        await self.core.clear(start, stop)

    async def get(self, index: int) -> bytes | None:
        return await self.core.get(index)

    async def download(self, start: int, stop: int) -> None:
        await self.core.download(start, stop)

    async def seek(self, byte_offset: int) -> tuple[int, int] | None:
        return await self.core.seek(byte_offset)

    async def connect(self, port: int) -> None:
        await self.peer.connect(port)

    async def disconnect(self) -> None:
        self.peer.cut()
        await trio.lowlevel.checkpoint()

    async def wait(self, length: int, fork: int) -> None:
        while self.core.length < length or self.core.fork < fork:
            await self.core.session.changed.wait()

    async def state(self) -> State:
        return self.core.length, self.core.fork, self.core.log.head.tree_hash.hex()


class Session:
    """The script of one seed, and what the writer has."""

    def __init__(self, random: Random, actors: list[Actor]) -> None:
        self.random = random
        self.actors = actors
        self.writer, *self.readers = actors
        self.blocks: list[bytes] = []
        self.fork = 0
        self.ever: dict[int, set[bytes]] = {}  # what each block has been, in any fork
        self._appended = 0

    async def run(self) -> None:
        """All steps, then the end."""
        weights: dict[Callable[[trio.Nursery], Awaitable[None]], int] = {
            self.append: 6,
            self.truncate: 1,
            self.connect: 5,
            self.disconnect: 2,
            self.pause: 4,
            self.get: 8,
            self.download: 4,
            self.seek: 4,
            self.clear: 1,
        }
        async with trio.open_nursery() as nursery:
            for step in self.random.choices(list(weights), list(weights.values()), k=_STEPS):
                await step(nursery)
        await self.end()

    async def append(self, _: trio.Nursery) -> None:
        added = []
        for _number in range(self.random.choice([1, 1, 2, 5, 30, 100])):
            self._appended += 1
            padding = self.random.randbytes(self.random.choice([0, 1, 10, 1000, 5000]))
            added.append(b"%d:%b" % (self._appended, padding))
        await self.writer.append(added)
        for index, block in enumerate(added, len(self.blocks)):
            self.ever.setdefault(index, set()).add(block)
        self.blocks += added

    async def truncate(self, _: trio.Nursery) -> None:
        if self.blocks:
            length = self.random.choice([0, self.random.randrange(len(self.blocks)), len(self.blocks) - 1])
            await self.writer.truncate(length)
            del self.blocks[length:]
            self.fork += 1

    async def connect(self, _: trio.Nursery) -> None:
        one, other = self.random.sample(self.actors, 2)
        await one.connect(other.port)

    async def disconnect(self, _: trio.Nursery) -> None:
        await self.random.choice(self.actors).disconnect()

    async def pause(self, _: trio.Nursery) -> None:
        await trio.sleep(self.random.choice([0.001, 0.01, 0.05]))

    async def get(self, nursery: trio.Nursery) -> None:
        reader, start, _ = await self._range()

        async def read() -> None:
            block = await reader.get(start)
            assert block is None or bytes(block) in self.ever[start]

        if start >= 0:
            nursery.start_soon(self._try, read)

    async def download(self, nursery: trio.Nursery) -> None:
        reader, start, stop = await self._range()
        if start >= 0:
            nursery.start_soon(self._try, partial(reader.download, start, stop))

    async def seek(self, nursery: trio.Nursery) -> None:
        reader, start, _ = await self._range()
        if start >= 0:
            nursery.start_soon(self._try, partial(reader.seek, self.random.randrange(2000)))

    async def clear(self, _: trio.Nursery) -> None:
        reader, start, stop = await self._range()
        if start >= 0:
            await self._try(partial(reader.clear, start, min(stop, start + 50)))

    async def _range(self) -> tuple[Actor, int, int]:
        """A reader and blocks it knows of; -1 when there are none."""
        reader = self.random.choice(self.readers)
        length = (await reader.state())[0]
        first, second = self.random.random(), self.random.random()
        start = int(first * length)
        return reader, start if length else -1, start + 1 + int(second * (length - start))

    async def _try(self, read: Callable[[], Awaitable[object]]) -> None:
        """Do what may be impossible by now, for a bounded time."""
        with trio.move_on_after(_READ_SECONDS):
            with contextlib.suppress(NoPeersError, BlockUnavailableError, JsPeerError):
                await read()

    async def end(self) -> None:
        """New connections, in a star or in a row: everybody gets everything."""
        await self.writer.append([b"end"])
        self.blocks.append(b"end")
        for actor in self.actors:
            await actor.disconnect()
        row = self.random.random() < 0.5
        for number, reader in enumerate(self.readers):
            await reader.connect(self.actors[number if row else 0].port)
        async with trio.open_nursery() as nursery:
            for reader in self.readers:
                nursery.start_soon(self._check, reader)

    async def _check(self, reader: Actor) -> None:
        with trio.fail_after(_END_SECONDS):
            await reader.wait(len(self.blocks), self.fork)
            await reader.download(0, len(self.blocks))
            assert await reader.state() == await self.writer.state()
            index = self.random.randrange(len(self.blocks))
            assert await reader.get(index) == self.blocks[index]
            before = sum(map(len, self.blocks[:index]))
            assert await reader.seek(before) == (index, 0)


@pytest.mark.parametrize("seed", range(_SESSIONS))
@pytest.mark.parametrize("cast", _CASTS)
async def test_all_have_the_same_at_the_end(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, cast: str, seed: int
) -> None:
    actors: list[Actor] = []
    key = ""
    with trio.fail_after(60):
        for number, kind in enumerate(cast):
            if kind == "j":
                theirs = await js_peer(f"peer-{number}")
                info = await (theirs.open_core(key=key) if key else theirs.open_core(name="core"))
                key = info.key
                actors.append(JsActor(theirs, key, await theirs.listen()))
            else:
                ours = await python_peer(f"peer-{number}")
                core = ours.core(key) if key else ours.own_core()
                key = core.key.hex()
                actors.append(PythonActor(ours, core, await ours.listen()))
        await Session(Random(f"{cast} {seed}"), actors).run()
        for actor in actors:
            if isinstance(actor, PythonActor):
                report = await trio.to_thread.run_sync(actor.core.log.verify)
                assert report.clean
