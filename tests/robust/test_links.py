"""Links at their edges: replayed bytes, idle peers, and things that happen in one and the same moment."""

from dataclasses import replace

import trio
from trio.testing import MockClock

from p2prss.crypto.keys import DiscoveryKey
from p2prss.errors import CorruptLogError, RemoteProtocolError
from p2prss.log.log import Log
from p2prss.log.store import Store
from p2prss.net.exchange import IDLE_SECONDS, Exchange
from p2prss.wire.connection import HANDSHAKE_SECONDS
from p2prss.wire.messages import Data
from tests.fakes.lying_peer import LyingPeer
from tests.robust.conftest import BLOCKS, Scene, let_time_fly, until


async def test_a_recorded_connection_cannot_be_played_again(scene: Scene) -> None:
    said: list[bytes] = []

    async def honest(peer: LyingPeer) -> None:
        write = peer.write

        async def record(data: bytes) -> None:
            said.append(bytes(data))
            await write(data)

        peer.write = record  # type: ignore[method-assign,assignment]
        await peer.ready()

    async def replay(peer: LyingPeer) -> None:
        for data in said:
            await peer.write(data)
        while True:
            await peer.read()

    first = scene.let_in(scene.writer, honest, initiator=True)
    await first.lied.wait()
    scene.let_in(scene.writer, replay, initiator=True)
    await until(lambda: scene.writer.drops)
    assert scene.writer.drops == {"handshake": 1}
    scene.connect_honest()
    await scene.download()


async def test_a_guest_that_opens_nothing_has_to_go_and_a_host_may_stay(
    scene: Scene, mock_clock: MockClock
) -> None:
    let_time_fly(mock_clock)

    async def stay(peer: LyingPeer) -> None:
        await peer.shake_hands()
        peer.lied.set()
        while True:
            await trio.sleep(5)
            await peer.say_frame(b"")

    guest = scene.let_in(scene.writer, stay, initiator=True, label="guest")
    host = scene.let_in(scene.writer, stay, initiator=False, label="host")
    await guest.lied.wait()
    await host.lied.wait()
    await trio.sleep(IDLE_SECONDS - 5)
    assert not scene.ended
    await trio.sleep(10)
    assert scene.writer.drops == {"idle": 1}
    await trio.sleep(IDLE_SECONDS)
    assert scene.writer.drops == {"idle": 1}
    assert scene.ended.keys() == {"guest"}
    scene.connect_honest()
    await scene.download()


async def test_a_guest_that_uses_a_log_may_be_quiet(scene: Scene, mock_clock: MockClock) -> None:
    let_time_fly(mock_clock)
    scene.connect_honest()
    await scene.download()
    await trio.sleep(3 * IDLE_SECONDS)
    assert not scene.ended


class PunctualStream(trio.abc.Stream):
    """Its only byte comes when ``byte`` is set."""

    def __init__(self) -> None:
        self.byte = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self.byte.wait()
        self.byte = trio.Event()
        return b"\x20"

    async def send_all(self, data: object) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_bytes_that_come_in_the_moment_of_a_timeout_are_too_late(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Which task runs first is up to chance: twenty links see both orders."""
    ends: list[str] = []
    deadline = trio.current_time() + HANDSHAKE_SECONDS

    async def send_byte(stream: PunctualStream) -> None:
        await trio.sleep_until(deadline)
        stream.byte.set()

    async def use(stream: PunctualStream) -> None:
        try:
            await scene.writer.use_stream(stream, False, "punctual")
        except RemoteProtocolError as error:
            ends.append(error.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            stream = PunctualStream()
            nursery.start_soon(use, stream)
            nursery.start_soon(send_byte, stream)
    assert ends == ["timeout"] * 20


async def test_a_log_can_be_opened_in_the_moment_in_which_a_link_ends(scene: Scene) -> None:
    async def mumble(peer: LyingPeer) -> None:
        await peer.ready()
        peer.lied.set()
        while True:
            await peer.read()

    stranger = scene.let_in(scene.writer, mumble, initiator=True)
    await stranger.lied.wait()
    (link,) = scene.writer.links
    link.connection.close()  # as after a frame that does not decrypt; the link's tasks are still to notice
    scene.writer.session(scene.writer.store.create("another"), eager=True)
    await trio.testing.wait_all_tasks_blocked()
    scene.connect_honest()
    await scene.download()


class BrokenStore(Store):
    """A store in which one log cannot be opened any more."""

    def find(self, discovery_key: DiscoveryKey) -> Log | None:
        raise CorruptLogError("the stored manifest does not fit the key")


async def test_a_log_that_cannot_be_opened_is_refused_and_the_node_goes_on(
    scene: Scene, nursery: trio.Nursery
) -> None:
    broken = Exchange(BrokenStore.in_memory(), nursery)

    async def ask(peer: LyingPeer) -> None:
        await peer.ready()

    curious = scene.let_in(broken, ask, initiator=True)
    await curious.lied.wait()
    assert curious.channel is not None
    assert curious.channel.closed
    good = broken.store.create("good")
    broken.session(good, eager=True)
    assert not broken.drops


async def test_a_forged_fork_takes_nothing_away(scene: Scene) -> None:
    scene.connect_honest()
    await scene.download()

    async def forge(peer: LyingPeer) -> None:
        forged = Store.in_memory().create("forged")
        forged.append([b"forged"] * BLOCKS)
        await peer.ready(fork=1)
        for request in await peer.hear_requests():
            proof = forged.answer(replace(request.proof, fork=0, manifest=False))
            await peer.say(Data(request.id, replace(proof, fork=1)))
        while True:
            await peer.read()

    scene.let_in(scene.reader, forge, initiator=True)
    await until(lambda: scene.reader.drops)
    assert scene.reader.drops == {"bad-proof": 1}
    assert scene.core.log.head == scene.truth.head
    assert scene.core.held_total == BLOCKS
    assert scene.core.log.verify().clean
