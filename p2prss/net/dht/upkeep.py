"""Keeping the routing table true: meeting nodes, pinging the silent ones, replacing the dead.

A node that writes to us first is pinged before it enters: a forged source address does not answer. A full row
gives a place away only when its oldest member is dead, so floods of new nodes change little.

Source: dht-rpc 6.27.0 index.js (``_onfullrow``, ``_pingSome``, ``_check``); spec/07-net.
"""

from typing import Final

from p2prss.net.dht.endpoint import Endpoint, node_id, pack_endpoint
from p2prss.net.dht.messages import Internal
from p2prss.net.dht.requests import Response
from p2prss.net.dht.routing import ROWS, Contact, K
from p2prss.net.dht.state import NodeState

TICK_SECONDS: Final = 5.0
PING_TICKS: Final = 8  # between rounds of pings
RECENT_SECONDS: Final = 60.0  # heard from this recently needs no ping
OLD_SECONDS: Final = 30 * 60.0  # a member for this long is trusted with a pause
RESAMPLE_SECONDS: Final = 30 * 60.0  # until the same node is asked for our address again
SLEEP_SECONDS: Final = 15.0  # a tick this late means the machine slept
MAX_SWAPS: Final = 3  # oldest members of full rows being pinged at once
MAX_CHECKS: Final = 10  # of newcomers, and of down hints, at once
MAX_DOWN_HINTS: Final = 50  # sent per tick
_BUSY: Final = 2  # requests in flight above which fewer pings are sent


class Upkeep:
    """Decides who is in the table."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._swaps = 0
        self._newcomers: set[Endpoint] = set()  # being checked
        self._suspects: set[Endpoint] = set()  # being checked
        self._hints_left = MAX_DOWN_HINTS
        self._ticks = 0
        self._strangers_asked: set[Endpoint] = set()  # nodes without an id that told us our address

    def learn(self, response: Response, now: float) -> None:
        """A reply came: its sender lives, and ``to`` is how it sees us."""
        reply, source = response.reply, response.source
        seen_as = reply.to if response.socket == self._state.request_socket else None
        if reply.id is None:
            self.dead(source)  # it was persistent, if we knew it; now it keeps nothing
            if seen_as is not None:
                self._sample_stranger(source, seen_as)
            return
        contact = self._state.table.get(reply.id)
        if contact is None:
            contact = Contact.new(source, now)
            if self._state.accepts(source) and not self._state.table.add(contact):
                self._swap(contact, now)
        contact.heard_at = contact.pinged_at = now
        contact.down_hints = 0
        if seen_as is not None and self._is_word_due(contact, now):
            contact.sampled_at = now
            self._state.sampler.add(seen_as)

    def meet(self, source: Endpoint, now: float) -> None:
        """A request came from a node with an id: ping it if the table has use for it."""
        state = self._state
        if state.table.get(node_id(source)) is not None:
            return  # a request proves nothing: its source may be forged
        if not state.accepts(source) or not self._may_check(source, self._newcomers):
            return
        row = state.table.row(node_id(source))
        if len(row) >= K or not state.table.is_welcome(Contact.new(source, now), row):
            return
        self._check(source, self._newcomers, now)

    def dead(self, endpoint: Endpoint) -> None:
        """A node never answered."""
        self._state.table.remove(node_id(endpoint))

    def check_down(self, endpoint: Endpoint, now: float) -> None:
        """Somebody says a node we know is dead: see for ourselves."""
        contact = self._state.table.get(node_id(endpoint))
        if contact is None or not self._may_check(endpoint, self._suspects):
            return
        if contact.down_hints == 0 or now - contact.pinged_at > TICK_SECONDS:
            contact.down_hints += 1
            self._check(endpoint, self._suspects, now)

    def hint_down(self, referrer: Endpoint, dead: Endpoint, now: float) -> None:
        """Tell a node that one it named is dead."""
        if self._hints_left > 0:
            self._hints_left -= 1
            value = pack_endpoint(dead)
            self._state.send_request(referrer, Internal.DOWN_HINT, now, internal=True, value=value)

    def tick(self, now: float) -> None:
        """Every 5 seconds."""
        self._ticks += 1
        self._hints_left = MAX_DOWN_HINTS
        if self._ticks % PING_TICKS == 0:
            self._ping_silent(now)

    def wake(self) -> None:
        """The machine slept: all nodes are suspect, their word about our address too."""
        for contact in self._state.table:
            contact.pinged_at = contact.heard_at = float("-inf")
            contact.sampled_at = None
        self._strangers_asked.clear()
        self._ticks = PING_TICKS - 2

    def resample(self) -> None:
        """Forget who told us our address: it was about another socket."""
        self._strangers_asked.clear()
        for contact in self._state.table:
            contact.sampled_at = None

    def _sample_stranger(self, source: Endpoint, seen_as: Endpoint) -> None:
        limit = max(1, len(self._state.bootstraps))
        if source not in self._strangers_asked and len(self._strangers_asked) < limit:
            self._strangers_asked.add(source)
            self._state.sampler.add(seen_as)

    def _is_word_due(self, contact: Contact, now: float) -> bool:
        """Whether a member of the table may tell us our address (again)."""
        if self._state.table.get(contact.id) is not contact:
            return False
        return contact.sampled_at is None or now - contact.sampled_at >= RESAMPLE_SECONDS

    def _ping_silent(self, now: float) -> None:
        count = 3 if len(self._state.requests) > _BUSY else 5
        oldest = self._state.table.oldest(count)
        if oldest and now - oldest[0].pinged_at < RECENT_SECONDS:
            oldest = oldest[:2]
        for contact in oldest:
            self._ping(contact.endpoint, now)

    def _ping(self, endpoint: Endpoint, now: float) -> None:
        contact = self._state.table.get(node_id(endpoint))
        if contact is not None:
            contact.pinged_at = now
        self._state.send_request(
            endpoint, Internal.PING, now, internal=True, on_failure=lambda _: self.dead(endpoint)
        )

    @staticmethod
    def _may_check(endpoint: Endpoint, checking: set[Endpoint]) -> bool:
        return endpoint not in checking and len(checking) < MAX_CHECKS

    def _check(self, endpoint: Endpoint, checking: set[Endpoint], now: float) -> None:
        def answered(_response: Response, _now: float) -> None:
            checking.discard(endpoint)

        def silent(_now: float) -> None:
            checking.discard(endpoint)
            self.dead(endpoint)

        if self._state.send_request(
            endpoint, Internal.PING, now, internal=True, on_reply=answered, on_failure=silent
        ):
            checking.add(endpoint)

    def _swap(self, newcomer: Contact, now: float) -> None:
        """A row is full: its oldest member answers, or gives up its place."""
        table = self._state.table
        row = table.row(newcomer.id)
        if self._swaps >= MAX_SWAPS or len(row) < K or table.row_of(newcomer.id) == ROWS:
            return
        oldest = min(row, key=lambda one: (one.pinged_at, one.added_at))
        if now - oldest.pinged_at < RECENT_SECONDS and now - oldest.added_at > OLD_SECONDS:
            return
        if oldest.pinged_at == now:
            return

        def answered(_response: Response, _now: float) -> None:
            self._swaps -= 1

        def silent(_now: float) -> None:
            self._swaps -= 1
            self.dead(oldest.endpoint)
            self._state.table.add(newcomer)

        oldest.pinged_at = now
        if self._state.send_request(
            oldest.endpoint, Internal.PING, now, internal=True, on_reply=answered, on_failure=silent
        ):
            self._swaps += 1
