"""What the exchange knows of a link: how it came about, and the logs that are open on it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from p2prss.crypto.keys import PublicKey
from p2prss.net.link import Link
from p2prss.net.session import Session
from p2prss.wire.framing import LENGTH_SIZE
from p2prss.wire.mux_channel import MuxChannel
from p2prss.wire.secret_stream import HEADER_FRAME_SIZE

if TYPE_CHECKING:
    from p2prss.net.connect.peer_stream import PeerStream


class Way(NamedTuple):
    """How a link goes, for people: ``tcp`` or ``udx``, and of the latter the way that was found."""

    transport: str
    path: str


class OpenedChannel:
    """A channel of one link: its log, and the peer's number once the peer was let in."""

    __slots__ = ("peer", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.peer = 0


@dataclass(slots=True)
class LinkState:
    """One link's."""

    initiator: bool
    idle_since: float  # while ``open`` is 0
    expected: PublicKey | None = None  # whom we dialled, where that is known
    peer_stream: "PeerStream | None" = None  # what it runs on, when it came from the swarm
    open: int = 0  # channels on which the peer was let in
    known: bool = False  # it was let in once
    handshake_hash: bytes = b""  # empty until the link is up
    channels: dict[MuxChannel, OpenedChannel] = field(default_factory=dict)
    sessions: set[Session] = field(default_factory=set)  # those of the channels

    @property
    def may_idle(self) -> bool:
        """A link to an address that the user gave stays, whatever the peer has."""
        return self.initiator and self.peer_stream is None

    @property
    def way(self) -> Way:
        """How it goes."""
        return Way("tcp", "direct") if self.peer_stream is None else Way("udx", self.peer_stream.path.value)


def has_worked(link: Link) -> bool:
    """Whether an encrypted message has gone over a swarm's link in each direction."""
    return min(link.bytes_received, link.bytes_sent) > LENGTH_SIZE + HEADER_FRAME_SIZE
