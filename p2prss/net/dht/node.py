"""One DHT node as a machine: datagrams and clock in, datagrams out.

It puts together the parts: requests in flight, the answers to others, the relay, the routing table's upkeep,
the proof of being reachable, and queries with their commit phase. It knows no sockets, no time and no chance
but what it is handed; ``p2prss.net.dht.client`` is the shell that runs it.

Source: dht-rpc 6.27.0 index.js; hyperdht 6.34.0 index.js; spec/07-net.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.errors import DecodeError
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.messages import (
    Command,
    ErrorCode,
    Internal,
    Reply,
    Request,
    decode_datagram,
)
from p2prss.net.dht.query import BACKGROUND_CONCURRENCY, CONCURRENCY, Answer, Query
from p2prss.net.dht.reachability import Reachability
from p2prss.net.dht.relay import Relay
from p2prss.net.dht.requests import QUERY_SENDS, SENDS, Outgoing, Response
from p2prss.net.dht.responder import Responder
from p2prss.net.dht.routing import K
from p2prss.net.dht.running_query import Question, RunningQuery
from p2prss.net.dht.state import DhtConfig, NodeState
from p2prss.net.dht.upkeep import SLEEP_SECONDS, TICK_SECONDS, Upkeep

if TYPE_CHECKING:
    from random import Random

REFRESH_SECONDS: Final = 300.0  # between background queries
SMALL_REFRESH_SECONDS: Final = 40.0  # the same while fewer than 20 nodes are known
_ROUTED: Final = (Command.PEER_HANDSHAKE, Command.PEER_HOLEPUNCH)


class Write(NamedTuple):
    """A request of the commit phase, for one node."""

    command: Command
    value: bytes


class Commit(NamedTuple):
    """What came of a commit phase; who never answered is in neither list."""

    stored: list[Answer]
    errors: list[int]


class DhtMachine:
    """A node of the network.

    Args: random: the source of all chance, seeded securely by the shell; unix_time: seconds since 1970 at
    ``now``, which is any monotonic clock in seconds.
    """

    def __init__(self, config: DhtConfig, *, random: "Random", now: float, unix_time: float) -> None:
        self.state = NodeState(config, random=random, now=now, unix_time=unix_time)
        self.upkeep = Upkeep(self.state)
        self.relay = Relay(self.state)
        self.reachability = Reachability(
            self.state, now, on_moved=self._refresh_own, on_resample=self.upkeep.resample
        )
        self.bootstrapped = False
        self.undecodable = 0  # datagrams
        self.answered = 0  # requests taken
        self._responder = Responder(self.state, self.upkeep.check_down)
        self._on_bootstrapped: list[Callable[[], None]] = []
        self._bootstrapping: RunningQuery | None = None
        self._tick_at = now + TICK_SECONDS
        self._refresh_at = inf

    # -- the world

    def receive(self, data: Buffer, source: Endpoint, socket: int, now: float) -> None:
        """Take a datagram that came in at one of our sockets; nothing it holds can raise."""
        if ":" in source.host:
            return  # the network is IPv4 only
        try:
            message = decode_datagram(data, source)
        except DecodeError:
            self.undecodable += 1
            return
        self.relay.heard(source, now)
        if isinstance(message, Reply):
            self._take_reply(message, source, socket, now)
        else:
            self._take_request(message, source, socket, now)

    def data_to_send(self) -> list[Outgoing]:
        """Datagrams to send now; each is handed out once."""
        outbox = self.state.outbox
        if not outbox:
            return []
        sending = outbox.copy()
        outbox.clear()
        return sending

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` wants to be called."""
        return min(self._tick_at, self.state.requests.deadline, self._responder.deadline)

    def handle_timer(self, now: float) -> None:
        """Whatever is due."""
        self.state.requests.handle_timer(now)
        self._responder.handle_timer(now)
        if now >= self._tick_at:
            self._tick(now)

    def wake(self, now: float) -> None:
        """The machine slept, and may be somewhere else now; late ticks tell so, if the clock ran on."""
        self.upkeep.wake()
        self.reachability.wake(now)
        self._refresh_at = min(self._refresh_at, now + TICK_SECONDS)

    # -- what a node can be asked to do

    def bootstrap(self, now: float, on_done: Callable[[], None] | None = None) -> None:
        """Fill the table from the bootstrap nodes; without any, or an answer, it is tried again later."""
        if on_done is not None:
            self._on_bootstrapped.append(on_done)
        if self._bootstrapping is not None:
            self._bootstrapping.add(self.state.bootstraps, now)  # there may be new ones
            return
        query = self.start_query(
            self.state.table.own_id,
            Internal.FIND_NODE,
            now,
            internal=True,
            on_done=self._bootstrap_done,
            sends=SENDS,
        )
        self._bootstrapping = None if query.finished else query

    def start_query(
        self,
        target: bytes,
        command: int,
        now: float,
        *,
        internal: bool = False,
        value: bytes | None = None,
        start: Iterable[Endpoint] = (),
        background: bool = False,
        on_answer: Callable[[Answer], None] | None = None,
        on_done: Callable[[RunningQuery, float], None] | None = None,
        sends: int = QUERY_SENDS,
    ) -> RunningQuery:
        """Walk to the nodes nearest to ``target`` with a question.

        Args: start: whom to ask first, instead of the nearest nodes known; on_answer: called with each good
        answer; on_done: called once, perhaps before this returns.
        """
        query = Query(
            target,
            list(start) or self._nearest(target),
            accept=self.state.accepts,
            fallback=lambda: [*self._nearest(target), *self.state.bootstraps],
            concurrency=BACKGROUND_CONCURRENCY if background else CONCURRENCY,
        )
        question = Question(command, value, internal, sends)
        running = RunningQuery(self.state, self.upkeep, query, question, on_answer=on_answer, on_done=on_done)
        running.advance(now)
        return running

    def commit(
        self,
        answers: Iterable[Answer],
        target: bytes,
        make: Callable[[Answer, bytes], Write],
        now: float,
        on_done: Callable[[Commit, float], None],
    ) -> None:
        """Write to the nodes a query found, each with its own token.

        Args: make: the request for an answering node and its token; on_done: called with the outcome when
        all have answered or given up.
        """
        commit = Commit([], [])
        missing = 1  # ourselves, until all are sent

        def done(now: float) -> None:
            nonlocal missing
            missing -= 1
            if missing == 0:
                on_done(commit, now)

        def send(answer: Answer, token: bytes) -> bool:
            def replied(response: Response, now: float) -> None:
                if response.reply.error == ErrorCode.NONE:
                    commit.stored.append(answer)
                else:
                    commit.errors.append(response.reply.error)
                done(now)

            write = make(answer, token)
            pending = self.state.send_request(
                answer.endpoint,
                write.command,
                now,
                target=target,
                value=write.value,
                token=token,
                on_reply=replied,
                on_failure=done,
            )
            return pending is not None

        for answer in answers:
            token = answer.reply.token
            if token is not None and answer.reply.id is not None:
                missing += send(answer, token)
        done(now)

    # -- parts

    def _take_request(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        state = self.state
        if source.port == 0:
            return
        self.answered += 1
        if request.token is not None:
            if not state.tokens.is_valid(request.token, source.host, now):
                token = state.tokens.issue(source.host, now)
                state.send_reply(
                    source,
                    request.tid,
                    socket,
                    now,
                    token=token,
                    target=request.target,
                    error=ErrorCode.INVALID_TOKEN,
                )
                return
            state.limit.prove(source.host, now)
        if request.id is not None:
            self.upkeep.meet(source, now)
        if not request.internal and request.command in _ROUTED:
            self.relay.receive(request, source, socket, now)
        else:
            self._responder.answer(request, source, socket, now)

    def _take_reply(self, reply: Reply, source: Endpoint, socket: int, now: float) -> None:
        if self.state.requests.receive(reply, source, socket, now, self._learn):
            self.state.limit.prove(source.host, now)

    def _learn(self, response: Response, now: float) -> None:
        self.upkeep.learn(response, now)

    def _nearest(self, target: bytes) -> list[Endpoint]:
        known = [contact.endpoint for contact in self.state.table.closest(target)]
        return known if len(known) >= K else [*known, *self.state.bootstraps]

    def _bootstrap_done(self, query: RunningQuery, now: float) -> None:
        self._bootstrapping = None
        if query.successes == 0 and self.state.bootstraps:
            self._refresh_at = now + TICK_SECONDS
            return
        self._refresh_at = now + REFRESH_SECONDS
        if not self.bootstrapped:
            self.bootstrapped = True
            self.reachability.bootstrapped(now)
        waiting, self._on_bootstrapped = self._on_bootstrapped, []
        for on_done in waiting:
            on_done()

    def _refresh_own(self, now: float) -> None:
        """A query for the own neighbourhood, after the own id changed."""
        self._refresh(self.state.table.own_id, now)

    def _refresh(self, target: bytes, now: float) -> None:
        small = len(self.state.table) < K
        self._refresh_at = now + (SMALL_REFRESH_SECONDS if small else REFRESH_SECONDS)
        self.start_query(target, Internal.FIND_NODE, now, internal=True, background=True)

    def _tick(self, now: float) -> None:
        late = now - self._tick_at
        self._tick_at = now + TICK_SECONDS
        if late > SLEEP_SECONDS - TICK_SECONDS:
            self.wake(now)
        self.upkeep.tick(now)
        if self.bootstrapped:
            self.reachability.tick(now)
        if now < self._refresh_at:
            return
        if not self.bootstrapped:
            self.bootstrap(now)
            return
        members = list(self.state.table)
        self._refresh(self.state.random.choice(members).id if members else self.state.table.own_id, now)
