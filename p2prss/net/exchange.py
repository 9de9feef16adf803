"""All logs of a store over all links: who has which log open on which connection.

A log that somebody here wants (``Session.eager``) is offered on every link. One that is merely stored
is opened when a peer asks for its discovery key: that reveals to strangers no more than they know.
Nothing of a log is sent before the peer has shown, by the capability in its open message, that it
knows the log's key. Until then it is a stranger: of those there may be few, and the one that has been here
for longest gives way to the next, so that whoever knows a key finds room.

Memory: a link may hold some 80 MiB (``wire.connection``), all links together ``MAX_HELD_BYTES``, which is
what 128 slow readers of 4 MiB each have waiting; where that is not enough, those who hold most are dropped.
Source: spec/04-connection, "Channels"; spec/05-replication, "Handshake"; spec/07-net, "Room".
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final

import trio
from nacl.utils import random as random_bytes

from p2prss.codec import z32
from p2prss.crypto.keys import CoreKey, DiscoveryKey, KeyPair, PublicKey
from p2prss.errors import P2prssError, RemoteProtocolError, StorageError
from p2prss.log.log import Log
from p2prss.log.merkle import Head
from p2prss.log.store import Store
from p2prss.net.address import Address
from p2prss.net.conflict import make_evidence
from p2prss.net.link import Handler, Link
from p2prss.net.link_state import LinkState, OpenedChannel, Way, has_worked
from p2prss.net.session import Port, Session
from p2prss.net.swarm.priority import keep_new
from p2prss.units import MIB
from p2prss.wire.capability import capability, verify_capability
from p2prss.wire.connection import Connection, Event, Ready, State
from p2prss.wire.messages import ReplicationHandshake, decode_message
from p2prss.wire.mux import Closed, Opened, Received, Rejected, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel
from p2prss.wire.noise import HandshakeResult

if TYPE_CHECKING:
    from p2prss.net.connect.peer_stream import PeerStream

PROTOCOL: Final = "hypercore/alpha"
PATIENCE: Final = 10.0  # seconds without a wanted block before we say that nobody has it
TICK: Final = 0.1  # seconds between looks at the sessions' timers
IDLE_SECONDS: Final = 60.0  # a peer may stay so long without a log that both have open: slots are few
MAX_STRANGERS: Final = 64  # peers that came to us and have not shown yet that they know a log's key
MAX_HELD_BYTES: Final = 512 * MIB  # of unfinished frames and of what waits to be sent, on all links together


class Exchange:
    """Owns the sessions and the links of one store. Lives in the nursery it is given.

    Args: patience: seconds a reader waits for a block; on_conflict: told of a log that was frozen.
    """

    def __init__(
        self,
        store: Store,
        nursery: trio.Nursery,
        *,
        random: Random | None = None,
        patience: float = PATIENCE,
        on_conflict: Callable[[Log], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.patience = patience
        self._on_conflict = on_conflict
        self.drops: dict[str, int] = {}  # reason → how many links ended for it
        self._nursery = nursery
        self._random = random or Random(random_bytes(16))
        self.key_pair = KeyPair.from_seed(random_bytes(32))  # of this run: nobody is to be known by it
        self._sessions: dict[DiscoveryKey, Session] = {}
        self._links: dict[Link, LinkState] = {}
        self._peer_numbers = count(1)
        self._links_changed = trio.Event()
        nursery.start_soon(self._keep_time)

    @property
    def public_key(self) -> PublicKey:
        """What this node is called in the handshakes of this run."""
        return self.key_pair.public_key

    @property
    def links_changed(self) -> trio.Event:
        """Set when the next link is up or ends."""
        return self._links_changed

    @property
    def links(self) -> list[Link]:
        """The connections that are up."""
        return [link for link, state in self._links.items() if state.handshake_hash]

    def way(self, link: Link) -> Way:
        """How a link goes."""
        return self._links[link].way

    def logs_by_peer(self) -> dict[PublicKey, set[DiscoveryKey]]:
        """Which peers are connected, over whatever, and the logs that are open with each."""
        found: dict[PublicKey, set[DiscoveryKey]] = {}
        for link in self.links:
            if (handshake := link.connection.handshake) is not None and not link.ending:
                logs = found.setdefault(handshake.remote_public_key, set())
                opened = self._links[link].channels.values()
                logs.update(one.session.log.discovery_key for one in opened if one.peer)
        return found

    def session(self, log: Log, *, eager: bool = False) -> Session:
        """The session of a log, opened on every link when ``eager`` is asked for the first time."""
        session = self._sessions.get(log.discovery_key)
        if session is None:
            session = Session(log, self._nursery, self._random, self.patience, self._freeze)
            self._sessions[log.discovery_key] = session
        if eager and not session.eager:
            session.eager = True
            for link, state in list(self._links.items()):
                if state.handshake_hash and not link.connection.closed:  # one about to end is still here
                    self._offer(link, state, session)
                    self._handle(link, state, link.connection.events())
                    link.flush()
        return session

    def forget(self, key: CoreKey) -> None:
        """Stop replicating a log: its channels are closed on every link."""
        for discovery_key, session in list(self._sessions.items()):
            if session.log.key == key:
                del self._sessions[discovery_key]
                self._close_channels(session)

    def _close_channels(self, session: Session) -> None:
        for link, state in self._links.items():
            for channel, opened in list(state.channels.items()):
                if opened.session is session:
                    channel.close()
                    self._leave(state, channel)
                    link.flush()

    async def _freeze(self, session: Session, other: Head) -> None:
        """Two heads of a log are signed: keep both, and have nothing to do with it any more."""
        log = session.log
        session.freeze()
        self._close_channels(session)
        try:
            with trio.CancelScope(shield=True):  # what was found out is kept, even if we end just now
                evidence = await trio.to_thread.run_sync(make_evidence, log, other)
                await trio.to_thread.run_sync(self.store.freeze, log, evidence)
        except StorageError:
            log.frozen = True  # while we run; afterwards it will be found out again
        self._on_conflict(log)

    async def use_stream(
        self,
        stream: trio.abc.Stream,
        initiator: bool,
        label: str,
        *,
        expected: PublicKey | None = None,
    ) -> None:
        """Run a connected stream to its end; a peer that is not the ``expected`` one is told of no log.

        Raises: RemoteProtocolError when the peer was dropped, NetworkError when the connection broke.
        """
        connection = self._connection(initiator)
        link = Link(stream, connection, label)
        state = LinkState(initiator, trio.current_time(), expected)
        await self._run(link, state, lambda events: self._handle(link, state, events))

    async def use_peer_stream(self, peer: "PeerStream") -> None:
        """Run a connected stream of the swarm to its end; of two with the same peer one is ended at once.

        One that came to us counts only when the peer's header is here: an old handshake that somebody
        replays gets no further, and must not replace a connection that works.
        Raises: RemoteProtocolError when the peer was dropped, NetworkError when the connection broke.
        """
        connection = self._connection(peer.initiator, peer.handshake)
        link = Link(peer.stream, connection, _label(peer))
        state = LinkState(peer.initiator, trio.current_time(), peer_stream=peer)
        waiting: list[Event] = []

        def handle(events: list[Event]) -> None:
            waiting.extend(events)
            if peer.initiator or connection.state is not State.HEADER:
                batch = waiting.copy()
                waiting.clear()
                self._handle(link, state, batch)

        try:
            await self._run(link, state, handle)
        except P2prssError:
            peer.stream.destroy()
            raise

    def _connection(self, initiator: bool, handshake: HandshakeResult | None = None) -> Connection:
        return Connection(
            initiator=initiator,
            key_pair=self.key_pair,
            ephemeral_seed=random_bytes(32),
            stream_header=random_bytes(24),
            now=trio.current_time(),
            handshake=handshake,
        )

    async def _run(self, link: Link, state: LinkState, handle: Handler) -> None:
        """Have a link for as long as it lasts."""
        if not state.initiator:
            self._make_room()
        self._links[link] = state
        try:
            await link.run(handle)
        except RemoteProtocolError as error:
            self.drops[error.reason] = self.drops.get(error.reason, 0) + 1
            raise
        finally:
            del self._links[link]
            self._tell_links_changed()
            for channel in list(state.channels):
                self._leave(state, channel)

    def _handle(self, link: Link, state: LinkState, events: list[Event]) -> None:
        """Take a batch of a link's events; replicators are drained once, at its end."""
        now = trio.current_time()
        touched: dict[int, Session] = {}
        while events:
            for event in events:
                match event:
                    case Received(channel, message_type, payload):
                        opened = state.channels.get(channel)
                        if opened is None or not opened.peer:
                            continue
                        if (message := decode_message(message_type, payload)) is not None:
                            opened.session.receive(opened.peer, message, now)
                            touched[id(opened.session)] = opened.session
                    case Ready(remote_public_key, handshake_hash):
                        if state.expected not in (None, remote_public_key):
                            raise RemoteProtocolError(f"{link.label} is somebody else", reason="wrong-peer")
                        if not self._settle(link, state, remote_public_key):
                            return
                        state.handshake_hash = handshake_hash
                        self._tell_links_changed()
                        for session in self._sessions.values():
                            if session.eager:
                                self._offer(link, state, session)
                    case RemoteOpen():
                        self._remote_open(link, state, event)
                    case Opened(channel, remote_handshake):
                        self._opened(link, state, channel, remote_handshake, now)
                    case Closed(channel) | Rejected(channel):
                        self._leave(state, channel)
            events = link.connection.events()  # our own opens may have found the peer's waiting
        for session in touched.values():
            session.drain()

    def _settle(self, link: Link, state: LinkState, key: PublicKey) -> bool:
        """Of two of the swarm's connections with a peer end one; whether this, the new one, stays."""
        for other in self._links_with(key):
            stream = self._links[other].peer_stream
            if state.peer_stream is None or stream is None or other.ending:
                continue
            if not keep_new(
                self.public_key,
                key,
                new_is_initiator=state.initiator,
                existing_has_worked=has_worked(other),
            ):
                link.close()
                state.peer_stream.stream.destroy()
                other.connection.keep_alive()
                other.flush()
                return False
            other.close()
            stream.stream.destroy()
        return True

    def _links_with(self, key: PublicKey) -> list[Link]:
        return [
            link
            for link in self.links
            if (handshake := link.connection.handshake) and handshake.remote_public_key == key
        ]

    def _tell_links_changed(self) -> None:
        self._links_changed.set()
        self._links_changed = trio.Event()

    def _offer(self, link: Link, state: LinkState, session: Session) -> None:
        """Open our side of a log's channel, unless it is open already."""
        if session in state.sessions or session.conflict is not None:
            return
        proof = capability(state.handshake_hash, initiator=state.initiator, core_key=session.log.key)
        handshake = ReplicationHandshake(proof).encode()
        channel = link.connection.open(PROTOCOL, session.log.discovery_key, handshake)
        state.channels[channel] = OpenedChannel(session)
        state.sessions.add(session)
        session.offers += 1

    def _remote_open(self, link: Link, state: LinkState, remote: RemoteOpen) -> None:
        """A peer asks for a log: open our side if we have it, else say no."""
        session = None
        if remote.protocol == PROTOCOL:
            session = self._sessions.get(DiscoveryKey(remote.id))
            with suppress(StorageError):  # a log that cannot be opened is not served: the node has others
                if session is None and (log := self.store.find(DiscoveryKey(remote.id))) is not None:
                    session = self.session(log)
        if session is None or session.conflict is not None:
            link.connection.reject(remote)
        else:
            self._offer(link, state, session)

    def _opened(
        self, link: Link, state: LinkState, channel: MuxChannel, remote_handshake: bytes, now: float
    ) -> None:
        """Both sides are open: let the peer in if it knows the key, else drop it."""
        opened = state.channels[channel]
        received = ReplicationHandshake.decode(remote_handshake).capability
        if not verify_capability(
            received,
            state.handshake_hash,
            initiator=not state.initiator,
            core_key=opened.session.log.key,
        ):
            raise RemoteProtocolError(f"{link.label} does not know the key", reason="bad-capability")
        opened.peer = next(self._peer_numbers)
        state.known = True
        state.open += 1
        opened.session.offers -= 1
        opened.session.add_port(opened.peer, Port(link, channel), now)

    def _leave(self, state: LinkState, channel: MuxChannel) -> None:
        opened = state.channels.pop(channel, None)
        if opened is None:
            return
        state.sessions.discard(opened.session)
        if opened.peer:
            state.open -= 1
            state.idle_since = trio.current_time()
            opened.session.remove_port(opened.peer, trio.current_time())
        else:
            opened.session.offers -= 1

    async def _keep_time(self) -> None:
        """One clock for all sessions: a thousand idle ones cost a look at a number each."""
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            for session in list(self._sessions.values()):
                if session.replicator.deadline <= now:
                    session.handle_timer(now)
            for link, state in self._links.items():
                if not (state.may_idle or state.open) and now - state.idle_since >= IDLE_SECONDS:
                    link.close(RemoteProtocolError(f"{link.label} uses no log of ours", reason="idle"))
            self._bound_memory()

    def _make_room(self) -> None:
        """One more comes to us: the stranger that has had its chance for longest may have to go."""
        strangers = [
            link for link, state in self._links.items() if not (state.initiator or state.known or link.ending)
        ]
        if len(strangers) >= MAX_STRANGERS:
            first = strangers[0]
            first.close(RemoteProtocolError(f"{first.label} had to make room", reason="crowded"))

    def _bound_memory(self) -> None:
        """Drop those who hold most, until what is left is not too much."""
        held = {link: link.held_bytes for link in self._links}
        total = sum(held.values())
        while total > MAX_HELD_BYTES:
            worst = max(held, key=held.__getitem__)
            worst.close(RemoteProtocolError(f"{worst.label} takes too much memory", reason="memory"))
            total -= held.pop(worst)


def _label(peer: "PeerStream") -> str:
    """Where the peer is, as far as its stream knows."""
    remote = peer.stream.machine.remote
    if remote is None:
        return z32.encode(peer.public_key)
    host, port, *_ = remote.address
    return str(Address(host, port))
