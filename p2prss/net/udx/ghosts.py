"""What is left of closed streams: the last words to repeat to a peer that did not hear them.

UDX has no TIME-WAIT. The side that closes first forgets the stream, and if its last acknowledgement is lost
the other side ends with a timeout although everything arrived. So for a while a packet for a closed stream
is answered with that acknowledgement, or with the DESTROY when the stream was destroyed. An answer is never
larger than the packet it answers, and goes only where the stream was connected to.
"""

from collections import OrderedDict
from typing import Final, Generic, NamedTuple, TypeVar

from p2prss.net.udx.packet import DATA, END, HEARTBEAT

GHOST_SECONDS: Final = 15.0  # the reference gives up after 13
MAX_GHOSTS: Final = 4096  # some 200 bytes each; beyond, the oldest go

ANSWERED: Final = DATA | END | HEARTBEAT

Address = TypeVar("Address")


class Ghost(NamedTuple, Generic[Address]):
    """A closed stream."""

    last_words: bytes
    address: Address
    until: float


class Ghosts(Generic[Address]):
    """The closed streams of a table of ids; the oldest first."""

    def __init__(self) -> None:
        self._ghosts: OrderedDict[int, Ghost[Address]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ghosts)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._ghosts

    def add(self, stream_id: int, last_words: bytes, address: Address, now: float) -> None:
        """A stream was closed."""
        self._ghosts[stream_id] = Ghost(last_words, address, now + GHOST_SECONDS)
        self._expire(now)

    def answer(self, stream_id: int, kind: int, source: Address, now: float) -> bytes | None:
        """What to send back to ``source`` for a packet it sent to a closed stream."""
        self._expire(now)
        ghost = self._ghosts.get(stream_id)
        if ghost is None or ghost.address != source or not kind & ANSWERED:
            return None
        return ghost.last_words

    def _expire(self, now: float) -> None:
        ghosts = self._ghosts
        while ghosts:
            oldest = next(iter(ghosts.values()))
            if oldest.until > now and len(ghosts) <= MAX_GHOSTS:
                return
            ghosts.popitem(last=False)
