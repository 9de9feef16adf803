"""When a stream stops waiting: for a tail to be acknowledged, for anything at all, for ever.

The machine tells of packets sent and of progress; what is due it is told in return. Source: udx-native 1.21.3
(spec/07-net, "UDX timers"), but sooner and with growing pauses: see ``RESEND_PAUSE``.
"""

from enum import Enum
from math import inf
from typing import Final

from p2prss.net.udx.round_trip import RoundTrip

LEAST_TAIL_WAIT: Final = 0.01  # seconds: a peer that shares a processor with us answers late
FIRST_TAIL_WAIT: Final = 1.0  # seconds, before the first round trip is known
PEER_DELAY: Final = 0.002  # seconds a peer may put off acknowledging a single packet
RESEND_PAUSE: Final = 2.0  # seconds; pauses double up to it, so that a short outage ends soon
GIVE_UP_TIMEOUTS: Final = 7
GIVE_UP_SECONDS: Final = 13.0
SOFT_TIMEOUTS: Final = 5  # when both sides have ended, nobody may be left to acknowledge
SOFT_SECONDS: Final = 3.0


class Due(Enum):
    """What has to be done now."""

    TAIL_PROBE = "tail-probe"
    RESEND = "resend"
    GIVE_UP = "give-up"


class Timers:
    """The clocks of the packets under way; idle while there are none."""

    __slots__ = ("_probed", "_progress_at", "resend_at", "tail_at", "timeouts")

    def __init__(self) -> None:
        self.resend_at = inf
        self.tail_at = inf
        self.timeouts = 0
        self._progress_at = 0.0
        self._probed = False  # once for each progress

    @property
    def deadline(self) -> float:
        return min(self.resend_at, self.tail_at)

    def sent(self, way: RoundTrip, unacked: int, may_probe: bool, now: float) -> None:
        """Packets left; ``may_probe`` when nothing but time shows a loss of the last of them."""
        if self.resend_at == inf:
            self._progress_at = now
            self.resend_at = now + way.rto
        self._arm_tail(way, unacked, may_probe, now)

    def progressed(self, way: RoundTrip, unacked: int, may_probe: bool, now: float) -> None:
        """The peer has acknowledged something new."""
        self.timeouts = 0
        self._probed = False
        self._progress_at = now
        self.resend_at = now + way.rto if unacked else inf
        self._arm_tail(way, unacked, may_probe, now)

    def stop(self) -> None:
        """The stream is closed."""
        self.resend_at = self.tail_at = inf

    def due(self, way: RoundTrip, both_ended: bool, now: float) -> Due | None:
        """What is to be done; asking starts the next wait."""
        if now >= self.tail_at:
            self.tail_at = inf
            self._probed = True
            self.resend_at = now + way.rto
            return Due.TAIL_PROBE
        if now < self.resend_at:
            return None
        self.timeouts += 1
        silence = now - self._progress_at
        if self.timeouts >= GIVE_UP_TIMEOUTS and silence >= GIVE_UP_SECONDS:
            return Due.GIVE_UP
        if both_ended and self.timeouts >= SOFT_TIMEOUTS and silence >= SOFT_SECONDS:
            return Due.GIVE_UP
        self.resend_at = now + min(way.rto * 2**self.timeouts, max(RESEND_PAUSE, way.rto))
        return Due.RESEND

    def _arm_tail(self, way: RoundTrip, unacked: int, may_probe: bool, now: float) -> None:
        if not unacked or not may_probe or self._probed or self.timeouts:
            self.tail_at = inf
            return
        wait = FIRST_TAIL_WAIT
        if way.measured:
            wait = max(2 * way.srtt + (PEER_DELAY if unacked == 1 else 0.0), LEAST_TAIL_WAIT)
        self.tail_at = now + wait
        if self.tail_at >= self.resend_at:
            self.tail_at = inf
