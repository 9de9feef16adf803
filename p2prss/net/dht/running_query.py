"""A query on its way: the walk of ``Query``, with its requests sent and their answers taken.

What it meets keeps the routing table true: ``Upkeep`` is told who is silent, and who named him.

Source: dht-rpc 6.27.0 lib/query.js; spec/07-net.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.query import Answer, Query
from p2prss.net.dht.requests import QUERY_SENDS, Response
from p2prss.net.dht.state import NodeState
from p2prss.net.dht.upkeep import Upkeep


class Question(NamedTuple):
    """What each node on the way is asked."""

    command: int
    value: bytes | None = None
    internal: bool = False
    sends: int = QUERY_SENDS


class RunningQuery:
    """A query on its way. ``closest`` are the nearest answers so far; ``finished`` says it is over."""

    def __init__(
        self,
        state: NodeState,
        upkeep: Upkeep,
        query: Query,
        question: Question,
        *,
        on_answer: Callable[[Answer], None] | None,
        on_done: Callable[["RunningQuery", float], None] | None,
    ) -> None:
        self.finished = False
        self._state = state
        self._upkeep = upkeep
        self._query = query
        self._question = question
        self._on_answer, self._on_done = on_answer, on_done

    @property
    def target(self) -> bytes:
        return self._query.target

    @property
    def closest(self) -> list[Answer]:
        """Up to 20 answers, nearest first."""
        return self._query.closest

    @property
    def successes(self) -> int:
        return self._query.successes

    @property
    def visits(self) -> int:
        return self._query.visits

    @property
    def hops(self) -> int:
        return self._query.hops

    def cancel(self) -> None:
        """Ask nobody else; ``on_done`` is not called."""
        self.finished = True
        self._on_answer = self._on_done = None

    def add(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Ask these too, if they are near enough."""
        self._query.add(endpoints)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Send what there is to send now."""
        if self.finished:
            return
        while True:
            asked = [self._visit(endpoint, now) for endpoint in self._query.next_visits()]
            if all(asked):  # else some could not be asked at all: others may
                break
        if self._query.finished:
            self.finished = True
            on_done, self._on_done, self._on_answer = self._on_done, None, None
            if on_done is not None:
                on_done(self, now)

    def _visit(self, endpoint: Endpoint, now: float) -> bool:
        """Ask a node; false when that cannot be."""

        def replied(response: Response, now: float) -> None:
            answer = Answer(endpoint, response.reply, 0)
            if self._on_answer is not None and not response.reply.error:
                self._on_answer(answer)
            self._hint(self._query.replied(endpoint, response.reply), now)
            self.advance(now)

        def failed(now: float) -> None:
            self._upkeep.dead(endpoint)
            self._hint(self._query.failed(endpoint), now)
            self.advance(now)

        def slow(now: float) -> None:
            self._query.slow(endpoint)
            self.advance(now)

        question = self._question
        pending = self._state.send_request(
            endpoint,
            question.command,
            now,
            internal=question.internal,
            target=self._query.target,
            value=question.value,
            sends=question.sends,
            on_reply=replied,
            on_failure=failed,
            on_slow=slow,
        )
        if pending is None:
            self._query.failed(endpoint)
        return pending is not None

    def _hint(self, hints: list[tuple[Endpoint, Endpoint]], now: float) -> None:
        for referrer, dead in hints:
            self._upkeep.hint_down(referrer, dead, now)
