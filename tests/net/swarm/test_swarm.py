"""The swarm's shell on a DHT and a network that exist only in memory, on a clock that does not wait."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from p2prss.crypto.keys import DiscoveryKey, KeyPair, PublicKey
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.dht.client import Found, OnPeer
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.records import PeerRecord
from p2prss.net.dht.shell import NetworkView
from p2prss.net.link import Link
from p2prss.net.swarm.swarm import Swarm

NODE = Endpoint("10.0.0.1", 1)
RELAY = Endpoint("10.0.0.2", 2)
SECONDS = 0.3  # that a question to the DHT takes


def topic(number: int) -> DiscoveryKey:
    return DiscoveryKey(number.to_bytes(32, "big"))


class FakeDht:
    """Keeps announcements; ``asked`` is when which topic was asked for, and how."""

    def __init__(self) -> None:
        self.records: dict[bytes, dict[PublicKey, PeerRecord]] = {}
        self.asked: list[tuple[float, str, bytes]] = []
        self.down = False
        self.network_view = NetworkView(False, False, None, 0)
        self._changed = trio.Event()

    def move(self, host: str) -> None:
        self.network_view = NetworkView(False, False, host, 1)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_bootstrapped(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_network_change(self, seen: NetworkView) -> NetworkView:
        while self.network_view == seen:
            await self._changed.wait()
        return self.network_view

    async def lookup(
        self, topic: bytes, *, on_peer: OnPeer | None = None, start: Iterable[Endpoint] = ()
    ) -> Found:
        return await self._ask("lookup", topic, on_peer)

    async def announce(
        self,
        topic: bytes,
        key_pair: KeyPair,
        relays: Sequence[Endpoint] = (),
        *,
        on_peer: OnPeer | None = None,
        start: Iterable[Endpoint] = (),
        replace: bool = False,
    ) -> Found:
        found = await self._ask("replace" if replace else "announce", topic, on_peer)
        record = PeerRecord(key_pair.public_key, tuple(relays))
        self.records.setdefault(topic, {})[record.public_key] = record
        return found

    async def unannounce(self, topic: bytes, key_pair: KeyPair, *, start: Iterable[Endpoint] = ()) -> int:
        await self._ask("unannounce", topic, None)
        return self.records.get(topic, {}).pop(key_pair.public_key, None) is not None

    async def _ask(self, how: str, topic: bytes, on_peer: OnPeer | None) -> Found:
        self.asked.append((trio.current_time(), how, topic))
        await trio.sleep(SECONDS)
        if self.down:
            raise NetworkError("no DHT node took the announcement")
        peers = tuple(self.records.get(topic, {}).values())
        for peer in peers:
            if on_peer is not None:
                on_peer(peer)
        return Found(peers, (NODE,), 1)


class FakeLink:
    """One that carries nothing."""

    bytes_received = bytes_sent = 0

    def __init__(self, key: PublicKey, over: trio.Event) -> None:
        self.connection = SimpleNamespace(handshake=SimpleNamespace(remote_public_key=key))
        self.close = over.set


class FakeLinks:
    """An exchange whose links last until they are ended."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.links_changed = trio.Event()
        self.open: dict[PublicKey, set[DiscoveryKey]] = {}
        self.over: dict[PublicKey, trio.Event] = {}
        self.logs: dict[PublicKey, DiscoveryKey] = {}  # that are open as soon as the link is up
        self.error: RemoteProtocolError | None = None

    def logs_by_peer(self) -> dict[PublicKey, set[DiscoveryKey]]:
        return self.open

    async def use_peer_stream(self, peer: PeerStream) -> None:
        key = peer.public_key
        self.open[key] = {self.logs[key]} if key in self.logs else set()
        self.over[key] = trio.Event()
        link = FakeLink(key, self.over[key])
        self.links.append(cast(Link, link))
        self._tell()
        try:
            await self.over[key].wait()
            if self.error is not None:
                raise self.error
        finally:
            self.links.remove(cast(Link, link))
            del self.open[key]
            self._tell()

    def _tell(self) -> None:
        self.links_changed.set()
        self.links_changed = trio.Event()


class FakeNetwork:
    """Connects with those in ``reachable``; ``dialled`` is who was tried when."""

    def __init__(self, seed: int) -> None:
        self.key_pair = KeyPair.from_seed(bytes([seed]) * 32)
        self.dht = FakeDht()
        self.relays: tuple[Endpoint, ...] = (RELAY,)
        self.reachable: set[PublicKey] = set()
        self.dialled: list[tuple[float, PublicKey, tuple[Endpoint, ...]]] = []
        self.at_once = self.most_at_once = 0
        self.announced = trio.Event()
        self.admit: Callable[[PublicKey], bool] = lambda _: False
        self.on_peer: Callable[[PeerStream], Awaitable[None]] | None = None

    async def wait_announced(self) -> None:
        await self.announced.wait()

    async def serve(
        self, on_peer: Callable[[PeerStream], Awaitable[None]], *, admit: Callable[[PublicKey], bool]
    ) -> None:
        self.on_peer, self.admit = on_peer, admit
        self.announced.set()
        await trio.sleep_forever()

    async def connect(
        self, public_key: PublicKey, relays: Sequence[Endpoint] = (), *, brief: bool = False
    ) -> PeerStream:
        self.dialled.append((trio.current_time(), public_key, tuple(relays)))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await trio.sleep(SECONDS)
        finally:
            self.at_once -= 1
        if public_key not in self.reachable:
            raise ConnectError("silent")
        return stream_of(public_key)

    def add(self, number: int, *topics: DiscoveryKey, reachable: bool = True) -> PublicKey:
        """One more peer that has announced these topics."""
        key = PublicKey(b"peer" + number.to_bytes(28, "big"))
        if reachable:
            self.reachable.add(key)
        for one in topics:
            self.dht.records.setdefault(one, {})[key] = PeerRecord(key, (RELAY,))
        return key


def stream_of(key: PublicKey) -> PeerStream:
    return cast(PeerStream, SimpleNamespace(public_key=key))


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork(1)


@pytest.fixture
def links() -> FakeLinks:
    return FakeLinks()


@pytest.fixture
async def swarm(network: FakeNetwork, links: FakeLinks) -> Swarm:
    return Swarm(cast(Any, network), links, Random(1))


async def test_found_dialled_and_announced(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks, swarm: Swarm
) -> None:
    key = network.add(1, topic(1))
    swarm.join(topic(1))
    nursery.start_soon(swarm.run)
    await trio.sleep(2.0)
    assert links.open.keys() == {key}
    assert [(one, relays) for _, one, relays in network.dialled] == [(key, (RELAY,))]
    assert network.dht.records[topic(1)][network.key_pair.public_key].relay_addresses == (RELAY,)
    assert (swarm.statistics().announced, swarm.statistics().dials) == (1, 1)
    await swarm.close()
    assert network.key_pair.public_key not in network.dht.records[topic(1)]


async def test_a_publisher_dials_nobody(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, swarm: Swarm
) -> None:
    network.add(1, topic(1))
    swarm.join(topic(1), client=False)
    nursery.start_soon(swarm.run)
    await trio.sleep(3600)
    assert network.dialled == []
    assert 5 <= len(network.dht.asked) <= 8


async def test_who_comes_later_is_found(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks, swarm: Swarm
) -> None:
    swarm.join(topic(1))
    nursery.start_soon(swarm.run)
    await trio.sleep(4.0)
    assert swarm.why_nobody(topic(1)) == "nobody in the DHT has the feed"
    network.add(1, topic(1))
    await trio.sleep(10.0)
    assert links.open


async def test_a_lost_peer_is_dialled_again_and_a_silent_one_ever_less(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks, swarm: Swarm
) -> None:
    good, silent = network.add(1, topic(1)), network.add(2, topic(1), reachable=False)
    swarm.join(topic(1))
    nursery.start_soon(swarm.run)
    await trio.sleep(60.0)
    links.over[good].set()
    await trio.sleep(3.0)
    assert links.open.keys() == {good}
    links.open[good] = {topic(1)}
    await trio.sleep(540.0)
    assert [key for _, key, _ in network.dialled].count(good) == 2
    assert 4 <= [key for _, key, _ in network.dialled].count(silent) <= 8
    assert swarm.failures == {"silent": [key for _, key, _ in network.dialled].count(silent)}


async def test_why_there_is_nobody(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, swarm: Swarm
) -> None:
    assert swarm.why_nobody(topic(1)) == "no node of the DHT answers"
    network.add(1, topic(1), reachable=False)
    swarm.join(topic(1))
    nursery.start_soon(swarm.run)
    await trio.sleep(0.1)
    assert swarm.why_nobody(topic(1)) == "still asking the DHT"
    await trio.sleep(5.0)
    assert swarm.why_nobody(topic(1)) == "1 found in the DHT: the peer does not answer"


async def test_whoever_breaks_the_rules_is_neither_dialled_nor_let_in(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks, swarm: Swarm
) -> None:
    bad, stranger = network.add(1, topic(1)), PublicKey(b"s" * 32)
    swarm.join(topic(1))
    nursery.start_soon(swarm.run)
    await trio.sleep(2.0)
    assert network.admit(bad)
    assert network.on_peer is not None
    nursery.start_soon(network.on_peer, stream_of(stranger))
    await trio.sleep(0.1)
    links.error = RemoteProtocolError("it lies", reason="bad-frame")
    links.over[bad].set()
    await trio.sleep(0.1)
    links.error = RemoteProtocolError("it uses no log of ours", reason="idle")
    links.over[stranger].set()
    await trio.sleep(300.0)
    assert len(network.dialled) == 1
    assert not network.admit(bad)
    assert network.admit(stranger)


async def test_cut_off_and_back(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, swarm: Swarm
) -> None:
    swarm.join(topic(1))
    network.dht.down = True
    nursery.start_soon(swarm.run)
    await trio.sleep(600.0)
    assert swarm.statistics().announced == 0
    assert len(network.dht.asked) < 20
    assert swarm.why_nobody(topic(1)) == "no node of the DHT answers"
    network.dht.down = False
    await trio.sleep(160.0)
    assert swarm.statistics().announced == 1


async def test_another_address_is_announced_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, swarm: Swarm
) -> None:
    swarm.join(topic(1), client=False)
    nursery.start_soon(swarm.run)
    await trio.sleep(1.0)
    network.dht.move("198.51.100.1")  # it becomes known: nothing is new
    await trio.sleep(20.0)
    assert len(network.dht.asked) == 1
    network.dht.move("203.0.113.1")
    await trio.sleep(1.0)
    assert [how for _, how, _ in network.dht.asked] == ["replace", "replace"]


async def test_after_a_sleep_all_is_announced_again(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks
) -> None:
    slept = 0.0
    swarm = Swarm(cast(Any, network), links, Random(1), wall_clock=lambda: trio.current_time() + slept)
    swarm.join(topic(1), client=False)
    nursery.start_soon(swarm.run)
    await trio.sleep(30.0)
    assert len(network.dht.asked) == 1
    slept = 3600.0
    await trio.sleep(10.0)
    assert [how for _, how, _ in network.dht.asked] == ["replace", "replace"]


async def test_many_feeds_share_few_connections(
    nursery: trio.Nursery, autojump_clock: MockClock, network: FakeNetwork, links: FakeLinks, swarm: Swarm
) -> None:
    """160 topics with a popular one among them, each with peers of its own: all get their turn."""
    topics = [topic(number) for number in range(160)]
    links.logs = {network.add(number, one): one for number, one in enumerate(topics)}
    links.logs |= {network.add(1000 + number, topics[0]): topics[0] for number in range(60)}
    for one in topics:
        swarm.join(one)
    nursery.start_soon(swarm.run)
    served: set[DiscoveryKey] = set()
    most = 0
    for _ in range(30):
        await trio.sleep(60.0)
        served.update(*links.open.values())
        most = max(most, len(links.open))
    assert most <= 64
    assert network.most_at_once <= 3
    assert len(served) == 160
