"""BBR: how many packets may be under way, and how fast they may leave.

A loss tells little about a path (wireless drops, others' queues), so the rate is measured instead: what the
peer acknowledges per second, the best of the last ten round trips, times the shortest round trip, is what the
path holds. The machine is told of bursts sent, of packets delivered and of losses; it keeps no timer. Packets
are the unit, as in the reference: a packet is full whenever the rate matters.

Round trips and intervals below ``TICK`` count as one ``TICK``: between processes that share a processor
shorter ones tell of the scheduler, not of the path.

Sources: draft-cardwell-iccrg-bbr-congestion-control-00; the gains and windows of udx-native 1.21.3
(spec/07-net, "Congestion control"). Other than there, a probe of the round trip time keeps half of the
window.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil, inf
from typing import Final

INITIAL_WINDOW: Final = 10  # packets
MIN_WINDOW: Final = 4  # packets
MAX_WINDOW: Final = 16_384  # packets, some 23 MiB: what a lying peer can make us keep
TICK: Final = 0.001  # seconds
LEAST_ROUND: Final = 0.004  # seconds; in less, timers that come late look like a full path

HIGH_GAIN: Final = 2.88539  # 2 / ln 2: doubles the rate each round trip
DRAIN_GAIN: Final = 1 / HIGH_GAIN
WINDOW_GAIN: Final = 2.0
CYCLE: Final = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # pacing gains, a round trip each
FIRST_PHASE: Final = 4
PACING_MARGIN: Final = 0.99
FULL_GROWTH: Final = 1.25  # less growth in each of FULL_ROUNDS: the path is full
FULL_ROUNDS: Final = 3
RATE_ROUNDS: Final = 10  # round trips a measured rate counts
TOLD_ROUNDS: Final = 4  # round trips, at most, that a rate is measured over where not all is told
BURST_ROUNDS: Final = 5  # round trips, once to twice, an acknowledged surplus counts
MAX_SURPLUS: Final = 0.1  # seconds of packets
MIN_RTT_SECONDS: Final = 10.0  # a shortest round trip counts
PROBE_RTT_SECONDS: Final = 0.2
BURST_SECONDS: Final = 0.005  # of packets that may leave at once: timers come milliseconds late
SHORT_PATH_WINDOW: Final = (
    640  # packets, round trips of a TICK: the reference's socket holds 900 of 1500 bytes
)
SHORT_PATH_BYTES: Final = 930_000  # of payload; it holds 480 packets of 2048
TOLERATED_LOSS: Final = 0.2  # of a window, in one round trip
LEAST_PAUSE: Final = 0.0001  # seconds; far above what the clock's rounding can undo
SPARE_WINDOW: Final = 32  # packets above the computed window: peers acknowledge batches
SPARE_SECONDS: Final = 0.002  # of packets above it: both ends wait for their turn on a processor


class Mode(Enum):
    """What is being found out."""

    STARTUP = "startup"
    DRAIN = "drain"
    PROBE_RATE = "probe-rate"
    PROBE_RTT = "probe-rtt"


@dataclass(slots=True, eq=False)
class Burst:
    """Packets that left at one instant, with what was known then."""

    order: int  # counts bursts
    sent_at: float
    numbers: Sequence[int]  # of the packets, ascending
    delivered: int  # packets delivered until the last time that all were told
    delivered_at: float  # when that was
    first_sent_at: float  # when the last of them had left
    app_limited: bool  # there was too little to send to fill the path


class Bbr:
    """The congestion control of one path; all times are readings of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self.mode = Mode.STARTUP
        self.window = INITIAL_WINDOW  # packets under way
        self.min_rtt = inf
        self.rate = 0.0  # packets per second the path delivers; 0.0 until measured
        self.pacing_rate = inf  # packets per second
        self._short_path_window = SHORT_PATH_WINDOW
        self._orders = 0
        self._delivered = 0
        self._told = 0  # packets delivered, when the peer last told of all it has
        self._told_round = 0
        self._told_at = self._first_sent_at = now
        self._app_limited_until = 0  # this many delivered end the shortage
        self._rates: deque[tuple[int, float]] = deque()  # (round, rate), rates descending
        self._round = 0
        self._round_ends_at = 0  # packets delivered
        self._round_at = now - LEAST_ROUND
        self._pacing_gain, self._window_gain = HIGH_GAIN, HIGH_GAIN
        self._full_rate = 0.0
        self._full_rounds = 0
        self._filled = False
        self._phase, self._phase_at = 0, now
        self._min_rtt_at = now
        self._probe_ends_at: float | None = None
        self._saved_window = 0
        self._conserving = False
        self._recovering = False
        self._round_lost = 0  # packets
        self._surplus = [0, 0]  # packets above the expected, in this and the last period
        self._surplus_round = 0
        self._surplus_at, self._surplus_acked = now, 0
        self._tokens = float(INITIAL_WINDOW)  # packets that may leave now
        self._tokens_at = now

    # ---------------------------------------------------------------- sending

    def allowance(self, in_flight: int, now: float) -> int:
        """Packets that pacing lets go now.

        A path whose round trip is shorter than a timer's delay is paced by its acknowledgements: were it by
        late timers, their rate would be measured, and taken for the path's.
        """
        elapsed = now - self._tokens_at
        if elapsed > 0:
            self._tokens_at = now
            if self.pacing_rate == inf:
                self._tokens = INITIAL_WINDOW
            else:
                self._tokens = min(self._tokens + elapsed * self.pacing_rate, self._bucket)
        if self.min_rtt <= TICK:
            return self._short_path_window - in_flight
        return int(self._tokens)

    def next_allowance(self, now: float) -> float:
        """When pacing will let a worthwhile number of packets go."""
        worthwhile = max(1.0, min(self._bucket, self.pacing_rate * TICK))
        if self._tokens >= worthwhile:
            return now
        return now + max((worthwhile - self._tokens) / self.pacing_rate, LEAST_PAUSE)

    def begin_burst(self, in_flight: int, now: float) -> Burst:
        """Packets are about to leave, while ``in_flight`` are under way; ``spend`` tells how many."""
        if in_flight == 0:
            self._told, self._told_round = self._delivered, self._round
            self._first_sent_at = self._told_at = now
        self._orders += 1
        return Burst(
            self._orders,
            now,
            (),
            self._told,
            self._told_at,
            self._first_sent_at,
            self._delivered < self._app_limited_until,
        )

    def spend(self, count: int) -> None:
        """So many packets left."""
        self._tokens = max(self._tokens - count, 0.0)

    def resize(self, payload_size: int) -> None:
        """Full packets carry so many bytes from now on."""
        self._short_path_window = min(SHORT_PATH_WINDOW, SHORT_PATH_BYTES // payload_size)

    def ran_dry(self, in_flight: int) -> None:
        """There is nothing more to send though the window is open."""
        self._app_limited_until = self._delivered + in_flight + 1

    # -------------------------------------------------------------- receiving

    def delivered(
        self, count: int, burst: Burst, rtt: float | None, in_flight: int, now: float, told_all: bool = True
    ) -> None:
        """The peer has ``count`` packets more.

        Args: burst: the burst of the one sent last among them; rtt: its round trip in seconds, unless it was
            sent more than once; in_flight: packets still under way; told_all: nothing arrived that the peer
            could not tell of. What it tells late is not measured from in between, where too little was known.
        """
        self._delivered += count
        interval = max(burst.sent_at - burst.first_sent_at, now - burst.delivered_at, TICK)
        round_started = burst.delivered >= self._round_ends_at and now >= self._round_at + LEAST_ROUND
        if round_started:
            self._round_at = now
            self._round += 1
            self._round_ends_at = self._delivered
            self._round_lost = 0
            self._conserving = False
        if told_all or self._round - self._told_round >= TOLD_ROUNDS:
            self._told, self._told_round = self._delivered, self._round
            self._first_sent_at, self._told_at = burst.sent_at, now
        rate = (self._delivered - burst.delivered) / interval
        if (rate >= self.rate or not burst.app_limited) and interval >= min(self.min_rtt, rtt or inf):
            self._note_rate(rate)
        self._note_surplus(count, now)
        if round_started and not burst.app_limited:
            self._check_full()
        self._advance(in_flight, now)
        self._note_rtt(rtt, in_flight, now)
        self._set_pace(rtt)
        self._set_window(count, in_flight)

    def lost(self, count: int, in_flight: int) -> None:
        """Packets were found lost. Some always are; many in one round trip mean that a queue ran over."""
        self._recovering = True
        self._round_lost += count
        if self._round_lost > TOLERATED_LOSS * self.window:
            self._conserving = True
            self.window = max(in_flight + count, MIN_WINDOW)

    def recovered(self) -> None:
        """All that was under way at the first loss has arrived."""
        self._recovering = self._conserving = False
        if self.mode is not Mode.PROBE_RTT:
            self.window = max(self.window, self._saved_window)
            self._saved_window = 0

    def timed_out(self, in_flight: int) -> None:
        """Nothing came back for long: begin with a single packet; the rates stay known."""
        self._saved_window = max(self._saved_window, self.window)
        self._recovering, self._conserving = True, False
        self.window = in_flight + 1
        self._tokens = max(self._tokens, 1.0)

    # ---------------------------------------------------------------- the model

    @property
    def _bucket(self) -> float:
        return max(float(INITIAL_WINDOW), self.pacing_rate * BURST_SECONDS)

    def _path(self, gain: float) -> int:
        """Packets the path holds, times the gain."""
        if not self.rate or self.min_rtt == inf:
            return INITIAL_WINDOW
        return ceil(gain * self.rate * self.min_rtt)

    def _note_rate(self, rate: float) -> None:
        rates = self._rates
        while rates and rates[-1][1] <= rate:
            rates.pop()
        rates.append((self._round, rate))
        while rates[0][0] <= self._round - RATE_ROUNDS:
            rates.popleft()
        self.rate = rates[0][1]

    def _note_surplus(self, count: int, now: float) -> None:
        """Peers that acknowledge in lumps need a window with room for a lump."""
        if self._round - self._surplus_round >= BURST_ROUNDS:
            self._surplus_round = self._round
            self._surplus = [0, self._surplus[0]]
        expected = self.rate * (now - self._surplus_at)
        if self._surplus_acked <= expected:
            self._surplus_at, self._surplus_acked, expected = now, 0, 0.0
        self._surplus_acked += count
        surplus = min(int(self._surplus_acked - expected), self.window)
        self._surplus[0] = max(self._surplus[0], surplus)

    def _check_full(self) -> None:
        if self._filled:
            return
        if self.rate >= self._full_rate * FULL_GROWTH:
            self._full_rate, self._full_rounds = self.rate, 0
            return
        self._full_rounds += 1
        self._filled = self._full_rounds >= FULL_ROUNDS

    def _advance(self, in_flight: int, now: float) -> None:
        if self.mode is Mode.STARTUP and self._filled:
            self.mode = Mode.DRAIN
            self._pacing_gain, self._window_gain = DRAIN_GAIN, HIGH_GAIN
        if self.mode is Mode.DRAIN and in_flight <= self._path(1.0):
            self._probe_rate(now)
        elif self.mode is Mode.PROBE_RATE:
            lasted = now - self._phase_at > max(self.min_rtt, LEAST_ROUND)
            gain = self._pacing_gain
            if gain > 1.0:
                lasted = lasted and (self._recovering or in_flight >= self._path(gain))
            elif gain < 1.0:
                lasted = lasted or in_flight <= self._path(1.0)
            if lasted:
                self._phase, self._phase_at = (self._phase + 1) % len(CYCLE), now
                self._pacing_gain = CYCLE[self._phase]

    def _probe_rate(self, now: float) -> None:
        self.mode = Mode.PROBE_RATE
        self._phase, self._phase_at = FIRST_PHASE, now
        self._pacing_gain, self._window_gain = CYCLE[FIRST_PHASE], WINDOW_GAIN

    def _note_rtt(self, rtt: float | None, in_flight: int, now: float) -> None:
        expired = now - self._min_rtt_at > MIN_RTT_SECONDS
        if rtt is not None:
            rtt = max(rtt, TICK)
            if rtt <= self.min_rtt or expired:
                self.min_rtt, self._min_rtt_at = rtt, now
        if expired and self.mode is not Mode.PROBE_RTT:
            self.mode = Mode.PROBE_RTT
            self._saved_window = max(self._saved_window, self.window)
            self._pacing_gain, self._probe_ends_at = 1.0, None
        if self.mode is not Mode.PROBE_RTT:
            return
        if self._probe_ends_at is None:
            if in_flight <= max(self._path(0.5), MIN_WINDOW):
                self._probe_ends_at = now + PROBE_RTT_SECONDS
        elif now >= self._probe_ends_at:
            self._min_rtt_at = now
            self.window = max(self.window, self._saved_window)
            self._saved_window = 0
            if self._filled:
                self._probe_rate(now)
            else:
                self.mode = Mode.STARTUP
                self._pacing_gain = self._window_gain = HIGH_GAIN

    def _set_pace(self, rtt: float | None) -> None:
        if self.rate:
            rate = self._pacing_gain * self.rate * PACING_MARGIN
        elif rtt is not None:
            rate = HIGH_GAIN * INITIAL_WINDOW / max(rtt, TICK)
        else:
            return
        if self._filled or self.pacing_rate == inf or rate > self.pacing_rate:
            self.pacing_rate = rate

    def _set_window(self, count: int, in_flight: int) -> None:
        target = self._path(self._window_gain) + SPARE_WINDOW + int(self.rate * SPARE_SECONDS)
        if self._filled:
            target += min(max(self._surplus), int(self.rate * MAX_SURPLUS))
        if self._conserving:
            window = max(self.window, in_flight + count)
        elif self._filled:
            window = min(self.window + count, target)
        elif self.window < target or self._delivered < INITIAL_WINDOW:
            window = self.window + count
        else:
            window = self.window
        if self.mode is Mode.PROBE_RTT:
            window = min(window, max(self._path(0.5), MIN_WINDOW))
        largest = self._short_path_window if self.min_rtt <= TICK else MAX_WINDOW
        self.window = min(max(window, MIN_WINDOW), largest)
