"""One remote of one log: what it said, what we asked of it, and how well it behaves.

A ``Flight`` knows its peer and the ``Fetch`` it serves, and both know their flights.
"""

from dataclasses import dataclass, field
from enum import Enum
from math import inf

from p2prss.log.proof_parts import ProofRequest
from p2prss.replication.announcing import Interests
from p2prss.replication.events import Apply
from p2prss.replication.holdings import Holdings
from p2prss.replication.limits import (
    FIRST_REST,
    FIRST_WINDOW,
    MAX_LATE,
    MAX_NO_DATA,
    MAX_REMOTE_WANTS,
    MAX_REST,
    MAX_REVIVALS,
    MESSAGE_BURST,
    MESSAGE_RATE,
    MIN_WINDOW,
    PLAYHEAD_EXTRA_BYTES,
    PLAYHEAD_EXTRA_REQUESTS,
    TARGET_QUEUE,
    Limits,
)
from p2prss.replication.upload_queue import UploadQueue
from p2prss.replication.wants import Priority, SeekWant
from p2prss.wire.messages import Sync, Want


@dataclass(slots=True, eq=False)
class Flight:
    """One request in the air."""

    id: int
    peer: "Peer"
    request: ProofRequest
    priority: Priority
    sent_at: float
    cost: int  # bytes we expect
    fetch: "Fetch | None" = None  # the block it is for
    waits_at: int = -1  # level of the ancestor that other answers must bring first; -1: none
    seek: SeekWant | None = None  # the seek it is for
    given_up: bool = False  # it took too long, but was not cancelled
    revivals: int = 0  # how often it was waited for again


class Stage(Enum):
    """How far a block has come."""

    ASKED = "asked"
    PENNED = "penned"
    HANDED = "handed"


@dataclass(slots=True, eq=False)
class Fetch:
    """One block on its way."""

    index: int
    stage: Stage = Stage.ASKED
    flights: list[Flight] = field(default_factory=list)  # while asked; more than one when overtaken
    apply: Apply | None = None  # its answer, once there
    waits_at: int = -1  # while penned: the level of the ancestor that is missing


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """A peer as a person may want to see it."""

    peer: int
    fork: int
    length: int  # blocks it announced
    contiguous_length: int  # blocks from the start of the log it says it has
    held: int  # blocks it says it has, of those it announced
    in_flight: int  # requests
    latency: float  # seconds a request takes, smoothed; 0 when unknown
    blocks_received: int
    bytes_received: int
    blocks_sent: int
    bytes_sent: int
    resting: bool  # silent of late, and left alone for a while


class Peer:
    """The state of one remote; it decides nothing that concerns others."""

    def __init__(self, number: int, limits: Limits, now: float) -> None:
        self.number = number
        self.holdings = Holdings()
        self.interests = Interests()
        self.uploads = UploadQueue(limits)
        self.asked_batches: set[int] = set()  # batches of blocks we sent a want for
        self.told: Sync | None = None  # the last sync we sent
        # Its last sync; before the first one a peer is taken for an empty one
        self.synced = False
        self.fork = 0
        self.length = 0  # blocks
        self.acked = 0  # our length, as it knew it
        self.can_upgrade = False
        self.uploading = False
        self.downloading = False
        self.has_manifest = False
        self.claimed = 0  # blocks reached by the ranges it has announced since
        self._answered_wants: dict[tuple[int, int, bool], int] = {}  # by stretch: changes there were then
        self.remind_at = inf  # when it hears our sync again
        self.reminder_seconds = 0.0  # until then, since the last one
        # Requests
        self.flights: dict[int, Flight] = {}  # by id, the oldest first
        self.late: dict[int, Flight] = {}  # given up or cancelled; an answer may still come
        self._late_blocks: dict[int, int] = {}  # block index to id of a request that may be revived
        self.flight_bytes = 0
        self.window = FIRST_WINDOW  # bytes
        self.latency = 0.0  # seconds
        self.last_answer_at = now
        self.news_at = now  # when it came, or said something new about its length
        self.dry = False  # it was found to have nothing we could ask for; reset by news
        self.look_again_at = -inf  # not before then, for its announcements
        # Trouble
        self.refusals = 0  # NoData, less answers
        self.refused_upgrade: tuple[int, int] | None = None  # (fork, length) it did not bring us to
        self.doubt: Flight | None = None  # asks for all of its log: what it sent does not fit ours
        self.bare_upgrades = False  # asked for a longer log, it refused because of the block beside it
        self.resting_until = -inf
        self._rest = FIRST_REST
        self._best = inf  # seconds its fastest answer took
        self._limits = limits
        self._tokens = MESSAGE_BURST
        self._tokens_at = now
        # Counters
        self.blocks_received = 0
        self.bytes_received = 0
        self.blocks_sent = 0
        self.bytes_sent = 0

    def usable(self, now: float) -> bool:
        """Whether it makes sense to ask it anything now."""
        return self.uploading and now >= self.resting_until and self.refusals < MAX_NO_DATA

    @property
    def troubled(self) -> bool:
        """Whether it has been silent and has not answered since: it gets one request at a time."""
        return self._rest > FIRST_REST

    @property
    def reliability(self) -> tuple[bool, float, int]:
        """A key that sorts the peers we would rather ask to the front."""
        return self.troubled, self.latency, self.flight_bytes

    def has_room(self, priority: Priority) -> bool:
        """Whether one more request may be sent to it; the play head may have a little more than others."""
        if self.troubled:
            return not self.flights
        count, nbytes = self._limits.in_flight_requests, self.window
        if priority is Priority.PLAYHEAD:
            count += PLAYHEAD_EXTRA_REQUESTS
            nbytes += PLAYHEAD_EXTRA_BYTES
        return len(self.flights) < count and self.flight_bytes < nbytes

    @property
    def wants_refill(self) -> bool:
        """Whether a quarter of what may be in flight is free."""
        return (
            4 * self.flight_bytes <= 3 * self.window
            and 4 * len(self.flights) <= 3 * self._limits.in_flight_requests
        )

    def take_off(self, flight: Flight) -> None:
        """A request was sent."""
        self.flights[flight.id] = flight
        self.flight_bytes += flight.cost

    def answered(self, flight: Flight, nbytes: int, now: float) -> None:
        """An answer came that fits its request: adapt what may be in flight to how long it took."""
        self.last_answer_at = now
        self._rest = FIRST_REST
        self.resting_until = -inf
        if self.refusals:
            self.refusals -= 1
        took = now - flight.sent_at
        self.latency += (took - self.latency) / 8 if self.latency else took
        self._best = min(self._best, took)
        if took - self._best > TARGET_QUEUE:
            self.window = max(MIN_WINDOW, self.window - nbytes)
        else:
            self.window = min(self._limits.in_flight_bytes, self.window + nbytes)
        if flight.fetch is not None:
            self.blocks_received += 1
        self.bytes_received += nbytes

    def land(self, flight: Flight) -> bool:
        """A request is in the air no longer; False when it was not."""
        if self.flights.pop(flight.id, None) is None:
            return False
        self.flight_bytes -= flight.cost
        return True

    def expect_late(self, flight: Flight) -> None:
        """A request was given up; its answer may come nevertheless, and is no offence."""
        self.late[flight.id] = flight
        block = flight.request.block
        if flight.given_up and block is not None and flight.revivals < MAX_REVIVALS:
            self._late_blocks[block.index] = flight.id
        if len(self.late) > MAX_LATE:
            self.take_late(next(iter(self.late)))

    def take_late(self, request_id: int) -> Flight | None:
        """The request of that id, if it was given up or cancelled; it is forgotten then."""
        flight = self.late.pop(request_id, None)
        if flight is not None and flight.request.block is not None:
            index = flight.request.block.index
            if self._late_blocks.get(index) == request_id:
                del self._late_blocks[index]
        return flight

    def take_late_block(self, index: int) -> Flight | None:
        """A request for that block that was given up, and may be waited for again."""
        request_id = self._late_blocks.get(index)
        return None if request_id is None else self.take_late(request_id)

    def rest(self, now: float) -> None:
        """It was silent for too long: leave it alone, longer each time."""
        self.resting_until = now + self._rest
        self._rest = min(2 * self._rest, MAX_REST)
        self.window = MIN_WINDOW

    def is_news(self, want: Want, changes: int) -> bool:
        """Whether the answer to a want may differ from the one it got before, if any.

        The reference, looking for a byte that nobody has, wants the same again at every answer.
        Args: changes: a counter of what the answers depend on.
        """
        stretch = (want.start, want.length, want.any)
        if self._answered_wants.get(stretch) == changes:
            return False
        if len(self._answered_wants) >= MAX_REMOTE_WANTS:
            self._answered_wants.clear()
        self._answered_wants[stretch] = changes
        return True

    def spend(self, tokens: float, now: float) -> bool:
        """Charge it for a small message; False when it has sent too many."""
        self._tokens = min(MESSAGE_BURST, self._tokens + (now - self._tokens_at) * MESSAGE_RATE) - tokens
        self._tokens_at = now
        return self._tokens >= 0

    def statistics(self, now: float) -> PeerStatistics:
        """A snapshot."""
        return PeerStatistics(
            peer=self.number,
            fork=self.fork,
            length=self.length,
            contiguous_length=min(self.holdings.contiguous, self.length),
            held=self.holdings.count(self.length),
            in_flight=len(self.flights),
            latency=self.latency,
            blocks_received=self.blocks_received,
            bytes_received=self.bytes_received,
            blocks_sent=self.blocks_sent,
            bytes_sent=self.bytes_sent,
            resting=now < self.resting_until,
        )
