"""A reader that wants a whole log, an honest peer that has it, and whoever is put beside them."""

import gc
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from p2prss.errors import P2prssError
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.units import KIB, MIB
from tests.fakes.lying_peer import LinkEnded, LyingPeer, Script

BLOCKS = 60
BLOCK_BYTES = 8 * KIB


class Scene:
    """One honest writer and one reader, each with an exchange, and strangers over real sockets.

    Args: store: of the reader; eager: whether it wants all there is, or only what it is told to fetch.
    """

    def __init__(self, nursery: trio.Nursery, store: Store | None = None, *, eager: bool = True) -> None:
        self.nursery = nursery
        random = Random(1)
        self.blocks = [random.randbytes(BLOCK_BYTES) for _ in range(BLOCKS)]
        self.writer = Exchange(Store.in_memory(bytes(32)), nursery, random=Random(2), patience=60.0)
        self.truth = self.writer.store.create("show")
        self.truth.append(self.blocks)
        self.reader = Exchange(store or Store.in_memory(), nursery, random=Random(3), patience=60.0)
        log = self.reader.store.open_log(self.truth.key)
        self.core = PeerCore(self.reader.session(log, eager=True))
        if eager:
            self.core.follow_tip()
        self.ended: dict[str, P2prssError] = {}  # label → why the exchange ended a link

    def let_in(self, exchange: Exchange, script: Script, *, initiator: bool, label: str = "it") -> LyingPeer:
        """Connect a stranger to an exchange and have it do as scripted."""
        near, far = _stream_pair()
        peer = LyingPeer(far, self.truth, initiator=initiator)
        self.nursery.start_soon(self._use, exchange, near, not initiator, label)
        self.nursery.start_soon(self._play, peer, script)
        return peer

    def connect_honest(self) -> None:
        """Connect the reader with the honest writer."""
        self.connect(self.writer, "honest")

    def connect(
        self, other: Exchange, label: str = "other", *, scope: trio.CancelScope | None = None
    ) -> None:
        """Connect the reader with another exchange, until the scope is cancelled."""
        near, far = _stream_pair()

        async def run() -> None:
            with scope or trio.CancelScope():
                async with trio.open_nursery() as both:
                    both.start_soon(self._use, self.reader, near, True, label)
                    both.start_soon(self._use, other, far, False, "reader")

        self.nursery.start_soon(run)

    async def _use(self, exchange: Exchange, stream: trio.SocketStream, initiator: bool, label: str) -> None:
        try:
            await exchange.use_stream(stream, initiator, label)
        except P2prssError as error:
            self.ended[label] = error

    async def _play(self, peer: LyingPeer, script: Script) -> None:
        async with peer.stream:
            try:
                await script(peer)
            except* LinkEnded:
                pass
            peer.lied.set()

    async def download(self) -> None:
        """Have the reader fetch everything, and compare."""
        await self.core.wait_length(BLOCKS)
        await self.core.download(0, BLOCKS)
        assert self.core.log.get_range(0, BLOCKS) == self.blocks
        assert self.core.log.head == self.truth.head


def _stream_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = trio.socket.socketpair()
    return trio.SocketStream(near), trio.SocketStream(far)


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    return Scene(nursery)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """The process grows by less than ``limit`` bytes inside the block, as the system sees it."""
    gc.collect()
    before = peak = _resident_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _resident_bytes())

    watcher = threading.Thread(target=watch, name="memory")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert peak - before < limit, f"grown by {(peak - before) / MIB:.1f} MiB"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that no event tells."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - counters have no events
            await trio.sleep(0.02)


def let_time_fly(clock: MockClock) -> None:
    """Whenever all tasks wait, it is the next thing's time; a slow machine makes no difference.

    The small pause is for worker threads, for which the clock does not wait.
    """
    clock.autojump_threshold = 0.001
