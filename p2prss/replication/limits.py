"""Every bound on what peers can make one replicated log cost, and the hook for upload limits.

Memory per log: at most ``waiting_bytes`` + ``apply_bytes`` of answers that are not stored yet, one frame
more each. Memory per peer: ``MAX_QUEUED_REQUESTS`` small requests, ``MAX_REMOTE_WANTS`` pairs of integers,
and a bitfield of at most ``MAX_BITFIELD_BLOCKS`` / 8 bytes, of which only what lies in the signed length
plus ``BITFIELD_HORIZON`` is ever kept.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from p2prss.units import KIB, MIB

# Asking
REQUEST_TIMEOUT: Final = 10.0  # seconds without any answer from a peer before its requests go elsewhere
REQUEST_LIFETIME: Final = 60.0  # seconds a request may stay at a peer that does answer others
OVERTAKE_PLAYHEAD: Final = 0.5  # seconds before a block in front of the play head is asked of a second peer
OVERTAKE_OTHERS: Final = 2.0  # seconds before an idle peer is asked what a slower one has not brought yet
MAX_COPIES: Final = 3  # peers asked for one block at a time
TARGET_QUEUE: Final = 0.75  # seconds a request may wait in queues before we ask a peer for less at a time
FIRST_WINDOW: Final = 1 * MIB  # bytes asked of a new peer at a time
MIN_WINDOW: Final = 128 * KIB  # bytes, likewise of the slowest
PLAYHEAD_EXTRA_BYTES: Final = 1 * MIB  # bytes the play head may ask of a peer that has its share already
PLAYHEAD_EXTRA_REQUESTS: Final = 32
FIRST_REST: Final = 5.0  # seconds a silent peer is not asked; doubles each time
MAX_REST: Final = 300.0  # seconds
MAX_NO_DATA: Final = 32  # refusals beyond its answers before a peer is not asked any more
APPLY_PAUSE: Final = 5.0  # seconds without new requests after an answer could not be stored
MAX_REVIVALS: Final = 4  # times a request is waited for again before the same peer is asked anew
MAX_LATE: Final = 256  # requests given up whose answers are still welcome, per peer
LOOK_INTERVAL: Final = 0.05  # seconds between searches through what a peer announces
TICK: Final = 0.25  # seconds between looks at the requests in flight
MAX_BLOCK_BYTES: Final = 15 * MIB

# Answering
MAX_QUEUED_REQUESTS: Final = 1024  # per peer
MAX_SERVING: Final = 64  # requests per peer handed to the shell and not answered yet
MAX_INVALID_REQUESTS: Final = 64  # per peer, before it is dropped
UPLOAD_QUEUE_SECONDS: Final = 0.1  # that answers may wait for a slow link: what is urgent comes behind them
MIN_UPLOAD_QUEUE: Final = 256 * KIB  # bytes, likewise of the slowest
UPLOAD_RATE_SECONDS: Final = 0.05  # over which the speed of a link is measured

# Announcements
WANT_BLOCKS: Final = 2**21  # blocks; the reference's batch, and the largest want it accepts
MIN_WANT_BLOCKS: Final = 32
MAX_REMOTE_WANTS: Final = 512  # stored per peer
MAX_REMOTE_WANT_SIZES: Final = 4  # different lengths per peer; more, and it is told everything
ALWAYS_ANNOUNCED: Final = 256  # blocks at the tip that are announced unasked
MAX_PAST_LENGTHS: Final = 64  # heads remembered, to help those who still have one of them
MAX_BITFIELD_BLOCKS: Final = 2**26  # blocks of a peer's bitfield we keep: 8 MiB
FIRST_REMINDER: Final = 1.0  # seconds after a peer's last sign until it hears our sync again; doubles
MAX_REMINDER: Final = 64.0  # seconds between two of them; then it hears no more
BITFIELD_HORIZON: Final = 2**21  # blocks beyond our own length of which a peer's bits are kept

# Small messages: tokens, one per message or KiB of it, not counting those that bring what we asked for
MESSAGE_RATE: Final = 4000.0  # tokens per second
MESSAGE_BURST: Final = 20_000.0  # tokens
WASTED_BYTES: Final = 4 * KIB  # bytes of an answer that is cancelled while it is made, for one token


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds a node may want to set for itself, per log."""

    in_flight_requests: int = 128  # per peer
    in_flight_bytes: int = 4 * MIB  # per peer, by the log's mean block size
    total_in_flight_bytes: int = 32 * MIB  # all peers together
    apply_bytes: int = 16 * MIB  # handed out as Apply and not applied yet
    waiting_bytes: int = 32 * MIB  # answers held back; what comes on top is thrown away and asked again
    queued_bytes: int = 4 * MIB  # outgoing bytes per peer above which no more requests are answered, at most


class UploadLimit(Protocol):
    """Decides whether, and when, bytes may be uploaded; may be shared by all logs of a node."""

    def grant(self, peer: int, nbytes: int, now: float) -> float:
        """Ask to upload about ``nbytes``.

        Returns: 0 when granted (and counted), seconds to wait before asking again, or ``inf`` to refuse.
        """
        ...
