"""Topics become connections: the shell around ``topics`` (when to look up) and ``peers`` (whom to dial).

It waits, and decides nothing: lookups, announcements and dials that the machines ask for run in tasks of
their own, and every stream goes to the exchange, which runs all logs that two peers share on one link.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from random import Random
from time import time
from typing import Final, Protocol

import trio

from p2prss.crypto.keys import DiscoveryKey, KeyPair, PublicKey
from p2prss.errors import NetworkError, P2prssError, RemoteProtocolError
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.dht.client import Found, OnPeer
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.records import PeerRecord
from p2prss.net.dht.shell import NetworkView
from p2prss.net.dht.upkeep import SLEEP_SECONDS
from p2prss.net.link import Link
from p2prss.net.swarm.peers import Dial, Peers
from p2prss.net.swarm.topics import Errand, Kind, Topics
from p2prss.units import KIB

LOOK_SECONDS: Final = 5.0  # between looks at the links; as often one may have to make room
QUIET_SECONDS: Final = 30.0  # over which a link's bytes are counted
QUIET_BYTES: Final = 4 * KIB  # that a link carries in this time when only keep-alives go over it
DIAL_SECONDS: Final = 60.0  # for one dial, whatever it tries
LEAVE_SECONDS: Final = 2.0  # for revoking announcements when we end
LEAVES_AT_ONCE: Final = 16  # topics

BLAMELESS: Final = frozenset({"crowded", "does-not-read", "memory", "timeout"})
"""Reasons for which a link is ended that are no reason to refuse the peer afterwards."""


class Dht(Protocol):
    """What the swarm needs of ``DhtNode``."""

    @property
    def network_view(self) -> NetworkView: ...

    async def wait_bootstrapped(self) -> None: ...

    async def wait_network_change(self, seen: NetworkView) -> NetworkView: ...

    async def lookup(
        self, topic: bytes, *, on_peer: OnPeer | None = None, start: Iterable[Endpoint] = ()
    ) -> Found: ...

    async def announce(
        self,
        topic: bytes,
        key_pair: KeyPair,
        relays: Sequence[Endpoint] = (),
        *,
        on_peer: OnPeer | None = None,
        start: Iterable[Endpoint] = (),
        replace: bool = False,
    ) -> Found: ...

    async def unannounce(self, topic: bytes, key_pair: KeyPair, *, start: Iterable[Endpoint] = ()) -> int: ...


class Network(Protocol):
    """What the swarm needs of ``PeerNetwork``."""

    key_pair: KeyPair

    @property
    def dht(self) -> Dht: ...

    @property
    def port(self) -> int: ...

    @property
    def relays(self) -> tuple[Endpoint, ...]: ...

    async def wait_announced(self) -> None: ...

    async def serve(
        self, on_peer: Callable[[PeerStream], Awaitable[None]], *, admit: Callable[[PublicKey], bool]
    ) -> None: ...

    async def connect(
        self, public_key: PublicKey, relays: Sequence[Endpoint] = (), *, brief: bool = False
    ) -> PeerStream: ...


class Links(Protocol):
    """What the swarm needs of the ``Exchange``."""

    @property
    def links(self) -> Collection[Link]: ...

    @property
    def links_changed(self) -> trio.Event: ...

    def logs_by_peer(self) -> dict[PublicKey, set[DiscoveryKey]]: ...

    async def use_peer_stream(self, peer: PeerStream) -> None: ...


@dataclass(frozen=True, slots=True)
class SwarmStatistics:
    """What a swarm does at this moment."""

    online: bool  # nodes of the DHT answer
    reachable_by_key: bool  # nodes relay for us
    topics: int
    announced: int  # topics
    peers: int  # that are known
    dials: int  # until now
    failures: dict[str, int]  # dials that came to nothing, by reason


class Swarm:
    """Finds peers for the topics that were joined. ``run`` does it.

    ``wall_clock`` goes on while the computer sleeps, other than ours.
    """

    def __init__(
        self, network: Network, exchange: Links, random: Random, *, wall_clock: Callable[[], float] = time
    ) -> None:
        self.topics = Topics(random)
        self.peers = Peers(network.key_pair.public_key, random)
        self.dials = 0
        self.failures: Counter[str] = Counter()
        self._network = network
        self._dht = network.dht
        self._exchange = exchange
        self._wall_clock = wall_clock
        self._clock_offset = wall_clock() - trio.current_time()
        self._online = self._announced = False
        self._relays: dict[DiscoveryKey, tuple[Endpoint, ...]] = {}  # those that were announced
        self._carried: dict[Link, int] = {}  # bytes, at the last count
        self._using: Counter[PublicKey] = Counter()  # connections that we made or let in
        self._quiet: frozenset[PublicKey] = frozenset()
        self._last_failure: dict[DiscoveryKey, str] = {}
        self._look_at = -inf  # when to look for a link to end
        self._wake = trio.Event()

    @property
    def port(self) -> int:
        """The UDP port that strangers are told about."""
        return self._network.port

    def join(self, topic: DiscoveryKey, *, server: bool = True, client: bool = True) -> None:
        """Be found for this topic (``server``), find others (``client``); a second time adds to the first."""
        self.topics.join(topic, trio.current_time(), server=server, client=client)
        self._wake.set()

    def leave(self, topic: DiscoveryKey) -> None:
        """Be found no longer; connections stay."""
        self.topics.leave(topic)
        self.peers.leave(topic)
        self._relays.pop(topic, None)
        self._last_failure.pop(topic, None)
        self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self._network.serve, self._use, admit=self._admit))
            await self._dht.wait_bootstrapped()
            self._online = True
            for task in (self._wait_announced, self._watch_network, self._watch_links, self._count_bytes):
                nursery.start_soon(task)
            while True:
                self._wake = trio.Event()
                self._do_what_is_due(nursery)
                deadline = min(self.topics.deadline, self.peers.deadline, trio.current_time() + LOOK_SECONDS)
                with trio.move_on_at(deadline):
                    await self._wake.wait()

    async def close(self) -> None:
        """Revoke announcements, as many as that takes no longer than a moment; ``run`` must have ended."""
        limit = trio.CapacityLimiter(LEAVES_AT_ONCE)

        async def revoke(topic: DiscoveryKey, start: Iterable[Endpoint]) -> None:
            async with limit:
                with suppress(NetworkError):
                    await self._dht.unannounce(topic, self._network.key_pair, start=start)

        with trio.move_on_after(LEAVE_SECONDS):
            async with trio.open_nursery() as nursery:
                for topic in self.topics:
                    if topic.announced:
                        nursery.start_soon(revoke, topic.key, topic.closest)

    def why_nobody(self, topic: DiscoveryKey) -> str:
        """In a few words, what is known about peers of a topic that has none."""
        joined = self.topics.get(topic)
        if not self._online:
            return "no node of the DHT answers"
        if joined is None or not joined.lookups:
            return "still asking the DHT"
        count = self.peers.count(topic)
        failure = self._last_failure.get(topic)
        if not count and not failure:
            return "nobody in the DHT has the feed"
        found = f"{count} found in the DHT" if count else "those found in the DHT are gone"
        return f"{found}: {failure}" if failure else found

    def statistics(self) -> SwarmStatistics:
        """What is going on."""
        return SwarmStatistics(
            online=self._online,
            reachable_by_key=self._announced,
            topics=len(self.topics),
            announced=sum(topic.announced for topic in self.topics),
            peers=len(self.peers),
            dials=self.dials,
            failures=dict(self.failures),
        )

    # ---- what the machines want done

    def _do_what_is_due(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        self._tell_of_links(now)
        if self._has_slept(now):
            self._begin_again(now)
        for errand in self.topics.due(now):
            nursery.start_soon(self._run_errand, errand)
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._make_room(now)
        for dial in self.peers.due(now):
            nursery.start_soon(self._dial, dial)

    def _make_room(self, now: float) -> None:
        """End a link when topics that have none are waiting for room, or nobody can be let in any more."""
        spare = self.peers.spare(now, self._quiet) or self.peers.surplus(now, self._quiet)
        if spare is not None:
            for link in self._exchange.links:
                if _remote(link) == spare:
                    link.close()
            self.peers.give_up(spare, now)

    def _tell_of_links(self, now: float) -> None:
        self.peers.links(
            {
                key: [log for log in logs if log in self.topics]
                for key, logs in self._exchange.logs_by_peer().items()
            },
            now,
        )
        self.topics.connected(self.peers.linked_topics(now), now)

    async def _run_errand(self, errand: Errand) -> None:
        try:
            closest = await self._ask(errand)
        except NetworkError:
            closest = ()
        now = trio.current_time()
        self._online = bool(closest) or errand.kind is Kind.UNANNOUNCE
        if self._online:
            self.topics.done(errand, now, closest)
        else:
            self.topics.failed(errand, now)
        self._wake.set()

    async def _ask(self, errand: Errand) -> Sequence[Endpoint]:
        """Raises: NetworkError."""
        topic, key_pair = errand.topic, self._network.key_pair
        on_peer = partial(self._found, topic)
        match errand.kind:
            case Kind.LOOKUP:
                return (await self._dht.lookup(topic, on_peer=on_peer, start=errand.start)).closest
            case Kind.ANNOUNCE:
                relays = self._network.relays
                replace = errand.replace or self._relays.get(topic) != relays
                self._relays[topic] = relays
                found = await self._dht.announce(
                    topic, key_pair, relays, on_peer=on_peer, start=errand.start, replace=replace
                )
                return found.closest
            case Kind.UNANNOUNCE:
                await self._dht.unannounce(topic, key_pair, start=errand.start)
        return ()

    def _found(self, topic: DiscoveryKey, record: PeerRecord) -> None:
        """A lookup, or an announcement of a topic of which we want peers, told of one."""
        joined = self.topics.get(topic)
        if joined is not None and joined.client:
            self.peers.found(topic, record.public_key, record.relay_addresses, trio.current_time())
            self._wake.set()

    async def _dial(self, dial: Dial) -> None:
        self.dials += 1
        try:
            with trio.fail_after(DIAL_SECONDS):
                peer = await self._network.connect(dial.key, dial.relays, brief=dial.brief)
        except (NetworkError, trio.TooSlowError) as error:
            self._note_failure(
                dial.key, error if isinstance(error, ConnectError) else ConnectError("timeout")
            )
        else:
            await self._use(peer)
        now = trio.current_time()
        self._tell_of_links(now)
        self.peers.ended(dial.key, now)
        self._wake.set()

    def _note_failure(self, key: PublicKey, error: ConnectError) -> None:
        self.failures[error.reason] += 1
        for topic in self.peers.topics_of(key):
            self._last_failure[topic] = str(error)

    # ---- what others do

    def _admit(self, key: PublicKey) -> bool:
        now = trio.current_time()
        self._tell_of_links(now)  # many may come at once
        return self.peers.admits(key, now)

    async def _use(self, peer: PeerStream) -> None:
        """One connection, until it ends; who broke the rules is not let in again for a while."""
        self._using[peer.public_key] += 1
        try:
            await self._exchange.use_peer_stream(peer)
        except RemoteProtocolError as error:
            now = trio.current_time()
            if error.reason == "idle":
                self.peers.let_be(peer.public_key, now)
            elif error.reason not in BLAMELESS:
                self.peers.ban(peer.public_key, now)
        except P2prssError:
            pass  # it broke; the machine decides when to try again
        finally:
            self._using[peer.public_key] -= 1
            if not self._using[peer.public_key]:
                del self._using[peer.public_key]
            self._wake.set()

    async def _wait_announced(self) -> None:
        await self._network.wait_announced()
        self._announced = True
        self.topics.may_announce()
        self._wake.set()

    async def _watch_network(self) -> None:
        """Do all again when our address is another one; when it becomes known it is none."""
        host = None
        view = self._dht.network_view
        while True:
            if host is not None and view.host not in (None, host):
                self._begin_again(trio.current_time())
                self._wake.set()
            host = view.host or host
            view = await self._dht.wait_network_change(view)

    def _begin_again(self, now: float) -> None:
        self.topics.network_changed(now)
        self.peers.network_changed(now)

    def _has_slept(self, now: float) -> bool:
        """Whether the computer did, since we asked last: nodes may have forgotten us meanwhile."""
        offset = self._wall_clock() - now
        jump, self._clock_offset = offset - self._clock_offset, offset
        return jump > SLEEP_SECONDS

    async def _watch_links(self) -> None:
        while True:
            await self._exchange.links_changed.wait()
            self._wake.set()

    async def _count_bytes(self) -> None:
        """Find out which links carry next to nothing."""
        while True:
            carried = {link: link.bytes_received + link.bytes_sent for link in self._exchange.links}
            busy = {
                _remote(link)
                for link, count in carried.items()
                if count - self._carried.get(link, 0) > QUIET_BYTES
            }
            self._quiet = frozenset(self._using.keys() - busy)
            self._carried = carried
            await trio.sleep(QUIET_SECONDS)


def _remote(link: Link) -> PublicKey | None:
    handshake = link.connection.handshake
    return None if handshake is None else handshake.remote_public_key
