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
from typing import Final

import trio
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import CoreKey, DiscoveryKey, KeyPair, PublicKey
from p2prss.errors import RemoteProtocolError, StorageError
from p2prss.log.log import Log
from p2prss.log.merkle import Head
from p2prss.log.store import Store
from p2prss.net.conflict import make_evidence
from p2prss.net.link import Link
from p2prss.net.session import Port, Session
from p2prss.units import MIB
from p2prss.wire.capability import capability, verify_capability
from p2prss.wire.connection import Connection, Event, Ready
from p2prss.wire.messages import ReplicationHandshake, decode_message
from p2prss.wire.mux import Closed, MuxChannel, Opened, Received, Rejected, RemoteOpen

PROTOCOL: Final = "hypercore/alpha"
PATIENCE: Final = 10.0  # seconds without a wanted block before we say that nobody has it
TICK: Final = 0.1  # seconds between looks at the sessions' timers
IDLE_SECONDS: Final = 60.0  # a peer that came to us may stay without opening a log we have: slots are few
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
        self._key_pair = KeyPair.from_seed(random_bytes(32))  # of this run: Noise here authenticates nobody
        self._sessions: dict[DiscoveryKey, Session] = {}
        self._links: dict[Link, _LinkState] = {}
        self._peer_numbers = count(1)
        self._links_changed = trio.Event()
        nursery.start_soon(self._keep_time)

    @property
    def public_key(self) -> PublicKey:
        """What this node is called in the handshakes of this run."""
        return self._key_pair.public_key

    @property
    def links_changed(self) -> trio.Event:
        """Set when the next link is up or ends."""
        return self._links_changed

    @property
    def links(self) -> list[Link]:
        """The connections that are up."""
        return [link for link, state in self._links.items() if state.handshake_hash]

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
        connection = Connection(
            initiator=initiator,
            key_pair=self._key_pair,
            ephemeral_seed=random_bytes(32),
            stream_header=random_bytes(24),
            now=trio.current_time(),
        )
        if not initiator:
            self._make_room()
        link = Link(stream, connection, label)
        state = _LinkState(initiator, expected, trio.current_time())
        self._links[link] = state
        try:
            await link.run(lambda events: self._handle(link, state, events))
        except RemoteProtocolError as error:
            self.drops[error.reason] = self.drops.get(error.reason, 0) + 1
            raise
        finally:
            del self._links[link]
            self._tell_links_changed()
            for channel in list(state.channels):
                self._leave(state, channel)

    def _handle(self, link: Link, state: "_LinkState", events: list[Event]) -> None:
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

    def _tell_links_changed(self) -> None:
        self._links_changed.set()
        self._links_changed = trio.Event()

    def _offer(self, link: Link, state: "_LinkState", session: Session) -> None:
        """Open our side of a log's channel, unless it is open already."""
        if session in state.sessions or session.conflict is not None:
            return
        proof = capability(state.handshake_hash, initiator=state.initiator, core_key=session.log.key)
        handshake = ReplicationHandshake(proof).encode()
        channel = link.connection.open(PROTOCOL, session.log.discovery_key, handshake)
        state.channels[channel] = _Opened(session)
        state.sessions.add(session)
        session.offers += 1

    def _remote_open(self, link: Link, state: "_LinkState", remote: RemoteOpen) -> None:
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
        self, link: Link, state: "_LinkState", channel: MuxChannel, remote_handshake: bytes, now: float
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

    def _leave(self, state: "_LinkState", channel: MuxChannel) -> None:
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
                if not (state.initiator or state.open) and now - state.idle_since >= IDLE_SECONDS:
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


class _Opened:
    """A channel of one link: its log, and the peer's number once the peer was let in."""

    __slots__ = ("peer", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.peer = 0


class _LinkState:
    """What the exchange knows of a link."""

    __slots__ = (
        "channels",
        "expected",
        "handshake_hash",
        "idle_since",
        "initiator",
        "known",
        "open",
        "sessions",
    )

    def __init__(self, initiator: bool, expected: PublicKey | None, now: float) -> None:
        self.initiator = initiator
        self.expected = expected  # whom we dialled, where that is known
        self.idle_since = now  # while ``open`` is 0
        self.open = 0  # channels on which the peer was let in
        self.known = False  # it was let in once
        self.handshake_hash = b""
        self.channels: dict[MuxChannel, _Opened] = {}
        self.sessions: set[Session] = set()  # those of the channels
