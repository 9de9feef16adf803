"""How long the way to the peer and back takes, and how long to wait for an answer.

Source: RFC 6298 with the constants of udx-native, except that we resend after 250 ms at the earliest, not
after a second: duplicates are acknowledged like anything else.
"""

from math import inf
from typing import Final

FIRST_RTO: Final = 1.0  # seconds, before anything was measured
MIN_RTO: Final = 0.25  # seconds
MAX_RTO: Final = 30.0  # seconds
MIN_RTT_WINDOW: Final = 300.0  # seconds a smallest round trip counts
LONG_SAMPLE: Final = 5.0  # seconds; longer ones must be plausible


class RoundTrip:
    """The smoothed round trip time of one path, in seconds; 0.0 before the first sample."""

    __slots__ = ("_min_at", "min_rtt", "rto", "srtt", "variance")

    def __init__(self) -> None:
        self.srtt = 0.0
        self.variance = 0.0
        self.rto = FIRST_RTO
        self.min_rtt = inf
        self._min_at = 0.0

    @property
    def measured(self) -> bool:
        return self.min_rtt < inf

    def sample(self, rtt: float, now: float) -> None:
        """Take one round trip of a packet that was sent only once."""
        rtt = max(rtt, 0.0)
        if not self.measured:
            self.srtt, self.variance = rtt, rtt / 2
        else:
            if rtt > LONG_SAMPLE:
                rtt = min(rtt, max(self.srtt + 5 * self.variance, LONG_SAMPLE), MAX_RTO)
            self.variance += (abs(self.srtt - rtt) - self.variance) / 4
            self.srtt += (rtt - self.srtt) / 8
        self.rto = min(max(self.srtt + 4 * self.variance, MIN_RTO), MAX_RTO)
        if rtt <= self.min_rtt or now - self._min_at > MIN_RTT_WINDOW:
            self.min_rtt, self._min_at = rtt, now
