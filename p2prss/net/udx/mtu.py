"""The search for the largest packet that passes.

A probe is an ordinary full packet with zeros in front of its payload, so that it can be sent again at the
old size when it is lost. Sizes count the IP packet. One probe is under way at a time; three lost probes of
one size make it the ceiling, and the search goes on halfway below it. Sizes above Ethernet's usual one, which
most ways have somewhere, are tried only where our own link carries more (loopback, jumbo frames), and not
halfway.
"""

from typing import Final

from p2prss.net.udx.packet import HEADER_SIZE

BASE_MTU: Final = 1200  # bytes, what every path is expected to carry
USUAL_MTU: Final = 1500  # bytes, where nothing else is known of the link
MAX_DATAGRAM: Final = 2048  # bytes of UDP; the reference cuts longer ones
FIRST_STEP: Final = 200  # bytes, not above ``MAX_PADDING``
LEAST_GAIN: Final = 24  # bytes; a smaller step is not worth a probe
TRIES: Final = 3
IPV4_OVERHEAD: Final = 20 + 8 + HEADER_SIZE  # bytes of IP, UDP and UDX headers
IPV6_OVERHEAD: Final = 40 + 8 + HEADER_SIZE


class MtuSearch:
    """Finds the packet size of one path, driven by the fate of its probes."""

    __slots__ = ("_failures", "_most", "_overhead", "_target", "_too_large", "mtu", "payload_size", "probing")

    def __init__(self, overhead: int = IPV6_OVERHEAD) -> None:
        self.restart(overhead)

    def restart(self, overhead: int, link_mtu: int = USUAL_MTU) -> None:
        """Begin again, for a new path.

        Args: overhead: bytes of all headers; link_mtu: what our own link carries.
        """
        self._overhead = overhead
        self._most = min(link_mtu, MAX_DATAGRAM + overhead - HEADER_SIZE)
        self.mtu = BASE_MTU
        self.payload_size = BASE_MTU - overhead
        self._too_large = self._most + 1
        self._failures = 0
        self.probing = False  # a probe is under way
        self._target = 0
        self._aim()

    @property
    def padding(self) -> int:
        """Bytes to put before a full payload to probe the next size; 0 when the search is over."""
        return max(0, self._target - self.mtu)

    def started(self) -> None:
        """A probe was sent."""
        self.probing = True

    def delivered(self) -> None:
        """The probe arrived."""
        self.probing = False
        self._failures = 0
        self.mtu = self._target
        self.payload_size = self.mtu - self._overhead
        self._aim()

    def lost(self) -> None:
        """The probe was lost, perhaps because of its size."""
        self.probing = False
        self._failures += 1
        if self._failures == TRIES:
            self._failures = 0
            self._too_large = self._target
            self._aim()

    def _aim(self) -> None:
        """Choose the next size: a bold step at first, then the middle of what is left."""
        if self._too_large > self._most:
            stop = USUAL_MTU if self.mtu < USUAL_MTU else self._most
            self._target = min(self.mtu + FIRST_STEP, stop, self._most)
        elif self.mtu >= USUAL_MTU:
            self._target = 0
        else:
            self._target = (self.mtu + self._too_large) // 2
            if self._target - self.mtu < LEAST_GAIN:
                self._target = 0
