"""Every error p2prss raises on purpose.

P2prssError                   has exit_code; its text is one line that names the cause
├── UsageError                2: what was asked for makes no sense
├── ProtocolError             1: a protocol's rules were broken
│   ├── LocalProtocolError      by our own code: a bug, never retried
│   └── RemoteProtocolError     by the peer: drop the connection (has reason)
│       ├── DecodeError           its bytes do not parse (has offset)
│       ├── ProofError            its proof does not verify
│       │   └── ConflictingHeadError  since another version is signed, too (log/verify.py)
│       └── InvalidRequestError   its question makes no sense (log/proof.py)
├── NetworkError              3: nobody answers
│   ├── NoPeersError            no peer has what is wanted
│   └── ConnectError            no way to a peer that is known (has reason; net/connect/peer_stream.py)
├── StorageError              5: the disk said no
│   ├── DiskFullError           5: no room, or the quota is used up
│   ├── CorruptLogError         4: what the disk holds fails its hashes
│   ├── SchemaError             1: the home was written by a newer version
│   └── HomeLockedError         6: another process owns the home
├── ConflictError             4: a log's writer has signed two versions that exclude each other
├── BlockUnavailableError     3: a block is not held, and nobody who has it answered
├── DriveError                4: what a drive's writer put into it makes no sense (drive/errors.py)
├── NotHeldError              1: asked for by a peer, who is told so (log/proof.py)
├── FeedError                 1: a feed cannot be read
│   ├── FetchError              3: an origin cannot be reached, or answers with an error
│   │   ├── PrivateAddressError   3: a feed leads to the local network, where it may not
│   │   └── RefusedError          3: asked again soon, it would answer the same: it is gone, or no such file
│   │       └── GoneError             3: the origin says that it is gone for good
│   ├── FeedFormatError         1: what came is no feed, or no feed we know how to read
│   │   └── SettingsError         1: a setting of a show makes no sense (feed/sources/show_settings.py)
│   ├── UnnamedFeedError        1: an address names no feed of ours (has feed_url)
│   └── WithdrawnFeedError      1: its publisher has taken it back
└── TryAgainError             75: the same command may succeed later
    └── OriginBusyError         75: the origin asks to come back later (has wait_seconds)
"""

from typing import ClassVar


class P2prssError(Exception):
    """The root: every error that can reach a user has a one-line text and an exit code."""

    exit_code: ClassVar[int] = 1


class UsageError(P2prssError):
    """What was asked for makes no sense: an unknown key text, an unknown feed, a bad option."""

    exit_code = 2


class ProtocolError(P2prssError):
    """A protocol's rules were broken."""


class LocalProtocolError(ProtocolError):
    """Our own code asked for an illegal step; nothing was changed."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules; the connection is dropped.

    ``reason`` is a short stable word for logs and counters, such as ``bad-frame``.
    """

    def __init__(self, message: str, *, reason: str = "protocol") -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(RemoteProtocolError):
    """Bytes do not parse; ``offset`` is where, in bytes from the start of what was decoded."""

    def __init__(self, message: str, *, offset: int = 0) -> None:
        super().__init__(message, reason="decode")
        self.offset = offset


class ProofError(RemoteProtocolError):
    """A proof does not verify.

    ``unconnected`` is true when it is merely not anchored in the nodes we hold: another answer,
    still on its way, may bring the missing node.
    """

    def __init__(self, message: str, *, unconnected: bool = False, reason: str = "bad-proof") -> None:
        super().__init__(message, reason=reason)
        self.unconnected = unconnected


class NetworkError(P2prssError):
    """Nobody answers."""

    exit_code = 3


class NoPeersError(NetworkError):
    """No peer has what is wanted."""


class StorageError(P2prssError):
    """The disk said no."""

    exit_code = 5


class DiskFullError(StorageError):
    """No room is left, or the quota is used up."""


class CorruptLogError(StorageError):
    """What the disk holds fails its hashes."""

    exit_code = 4


class SchemaError(StorageError):
    """The home was written by a newer version of p2prss."""

    exit_code = 1


class HomeLockedError(StorageError):
    """Another process owns the home."""

    exit_code = 6


class ConflictError(P2prssError):
    """A log's writer has signed two versions that exclude each other: no more is written or replicated."""

    exit_code = 4


class BlockUnavailableError(P2prssError):
    """A block is not held, and nobody who has it answered in time."""

    exit_code = 3


class FeedError(P2prssError):
    """A feed cannot be fetched or read."""


class FetchError(FeedError):
    """An origin cannot be reached, or answers with an error."""

    exit_code = 3


class PrivateAddressError(FetchError):
    """A feed leads to the local network, and nobody said that it may."""


class RefusedError(FetchError):
    """An origin's answer will be the same when it is asked again soon: what is wanted is not there."""


class GoneError(RefusedError):
    """An origin says that what was asked for is gone for good."""


class FeedFormatError(FeedError):
    """What came is no feed, or none we know how to read."""


class UnnamedFeedError(FeedError):
    """An address names no feed of ours; ``feed_url`` is the ordinary feed that is there, None without one."""

    def __init__(self, message: str, *, feed_url: str | None = None) -> None:
        super().__init__(message)
        self.feed_url = feed_url


class WithdrawnFeedError(FeedError):
    """The publisher has taken the feed back."""


class TryAgainError(P2prssError):
    """The same command may succeed later."""

    exit_code = 75


class OriginBusyError(TryAgainError):
    """An origin asks to come back later; ``wait_seconds`` is when, None where it does not say."""

    def __init__(self, message: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def first_leaf(group: "BaseExceptionGroup[P2prssError]") -> P2prssError:
    """The first of several errors that ended tasks at the same time."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, P2prssError)
    return error
