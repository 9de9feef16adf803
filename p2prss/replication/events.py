"""What the replication machine asks of its shell, and what it tells it."""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from p2prss.log.proof_parts import Proof, ProofRequest
from p2prss.wire.messages import Message, Request

if TYPE_CHECKING:
    from p2prss.log.merkle import Head
    from p2prss.replication.wants import SeekWant, Want


class DropReason(StrEnum):
    """Why a peer is to be disconnected; the value is what logs and counters show."""

    BAD_PROOF = "bad-proof"  # what it sent fails its hashes or its signature
    WRONG_ANSWER = "wrong-answer"  # it answered another question than the one we asked
    INVALID_REQUESTS = "invalid-requests"  # it keeps asking for what makes no sense
    TOO_MANY_REQUESTS = "too-many-requests"  # its queue here is full
    FLOOD = "flood"  # endless messages that bring nothing


class Send(NamedTuple):
    """Send the message on this log's channel to the peer."""

    peer: int
    message: Message


class Serve(NamedTuple):
    """Build the answer to ``request`` and hand it to ``Replicator.served``."""

    peer: int
    request: Request


class Apply(NamedTuple):
    """Verify the answer, store it, and hand the outcome to ``Replicator.applied``; in this order."""

    peer: int
    request: ProofRequest
    proof: Proof


class Drop(NamedTuple):
    """Disconnect the peer; the machine has forgotten it already."""

    peer: int
    reason: DropReason


class Stored(NamedTuple):
    """Blocks start..stop-1 are held now."""

    start: int
    stop: int


class Upgraded(NamedTuple):
    """The log has grown (or changed its fork) to this head, by a peer's proof."""

    head: "Head"


class Truncated(NamedTuple):
    """A peer proved a higher fork: blocks from ``length`` on are no longer what they were."""

    length: int
    fork: int


class Completed(NamedTuple):
    """Everything the want asked for is held; it need not be cancelled."""

    want: "Want | SeekWant"


class Synced(NamedTuple):
    """The peer has said for the first time where it stands."""

    peer: int


class Stalled(NamedTuple):
    """Blocks are wanted and no peer is left to ask; sent once until something moves."""


Event = Send | Serve | Apply | Drop | Stored | Upgraded | Truncated | Completed | Synced | Stalled
