"""When a stream says something only to be heard: to keep its way open, and to ask for a shut window.

Source: udx-native 1.21.3 as observed; spec/07-net, "UDX timers".
"""

from math import inf

from p2prss.net.udx.sending import SendSide


class Heartbeat:
    """The clock of heartbeats; it rests while packets are under way."""

    __slots__ = ("_keepalive", "_pause", "at")

    def __init__(self) -> None:
        self.at = inf  # when the next one is due
        self._pause = 0.0  # seconds until the next one for a shut window; 0.0: none was sent
        self._keepalive = 0.0  # seconds; 0.0: off

    def keep_alive(self, seconds: float, now: float) -> None:
        """Beat whenever nothing is under way for so long; 0.0 ends it."""
        self._keepalive = seconds
        self.at = now + seconds if seconds else inf

    def window_opened(self) -> None:
        """The peer takes data again."""
        self.at, self._pause = inf, 0.0

    def rest(self) -> None:
        """One was sent, or the stream is closed."""
        self.at = inf

    def arm(self, sender: SendSide, now: float) -> None:
        """What was to be sent has left: ask for the window while it is shut, else keep the way open."""
        if sender.flight.unacked:
            self.at = inf
        elif sender.window <= 0 and sender.pending:
            if self.at == inf:
                self.at = now + (self._pause or sender.round_trip.rto)
                self._pause = 2 * sender.round_trip.rto
        elif self._keepalive and self.at == inf:
            self.at = now + self._keepalive
