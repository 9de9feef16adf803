"""What a stream tells its owner."""

from dataclasses import dataclass
from enum import Enum


class CloseReason(Enum):
    """Why a stream is over."""

    ENDED = "ended"  # both sides had said all, and know it
    UNCONFIRMED = "unconfirmed"  # both had ended, but our last packets were not acknowledged
    DESTROYED = "destroyed"  # by us
    RESET = "reset"  # by the peer
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Readable:
    """New bytes are there: ``read`` them."""


@dataclass(frozen=True, slots=True)
class RemoteEnded:
    """The peer sends nothing more; what it sent can still be read."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """An unordered message: it may come twice, late or not at all."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RemoteChanged:
    """Everything sent before the last change of address is acknowledged."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream is over; nothing comes after it."""

    reason: CloseReason


Event = Readable | RemoteEnded | MessageReceived | RemoteChanged | Closed
