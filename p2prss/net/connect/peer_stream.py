"""What connecting ends with: a stream to a peer whose key is known, or the reason why there is none."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError
from p2prss.net.udx.trio_stream import UdxTrioStream
from p2prss.wire.noise import HandshakeResult


class Path(Enum):
    """Which way a stream goes; the value is the word for people."""

    DIRECT = "direct"  # the address was known, no relay took part
    OPEN = "open"  # one of the two can be reached by anybody
    LAN = "local network"
    PUNCHED = "punched"  # through a hole both made in their NAT
    RELAYED = "relayed"  # over a third peer that passes everything on


@dataclass(frozen=True, slots=True)
class PeerStream:
    """A connected raw stream whose Noise IK handshake is done: a ``Connection`` goes on at its header.

    On the side that was dialled nothing has come from the peer yet. Whoever replays an old handshake gets as
    far as this, but cannot make the header, so the connection counts only once that was read.
    """

    stream: UdxTrioStream
    handshake: HandshakeResult
    initiator: bool
    public_key: PublicKey  # the remote's
    path: Path


REASONS: Final = {
    "not-found": "nobody relays for this peer",
    "silent": "the peer does not answer",
    "incompatible": "the peer speaks another version",
    "server-error": "the peer refuses to connect",
    "timeout": "no way to the peer worked in time",
    "holepunch-aborted": "the peer gave up making a way through the NATs",
    "double-random": "both are behind NATs that no way leads through",
    "cannot-punch": "the peer's NAT, or ours, is not known well enough",
    "relay-failed": "the relay between the two does not work",
    "refused": "this peer is not wanted",
}
"""Every ``ConnectError.reason``, and how people are told."""


class ConnectError(NetworkError):
    """There is no connection to the peer; ``reason`` is one of ``REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason
