"""What replication needs of a log; ``log.log.Log`` and its ``Applied`` satisfy it by their shape."""

from enum import Enum, StrEnum
from typing import Protocol

from p2prss.crypto.keys import CoreKey
from p2prss.errors import ProofError
from p2prss.log.bitfield import Bitfield
from p2prss.log.manifest import Manifest
from p2prss.log.merkle import Head


class ReplicatedCore(Protocol):
    """The readable side of one log. ``head`` is an immutable snapshot, swapped after each commit."""

    @property
    def key(self) -> CoreKey: ...

    @property
    def head(self) -> Head: ...

    @property
    def bitfield(self) -> Bitfield: ...

    @property
    def contiguous_length(self) -> int: ...

    @property
    def manifest(self) -> Manifest | None: ...

    @property
    def compat(self) -> bool: ...

    @property
    def writable(self) -> bool:
        """Whether we sign it: then all nodes of its tree are stored, even where blocks were cleared."""
        ...


class Verdict(StrEnum):
    """What became of an answer; the values are those of the log's ``Outcome``."""

    STORED = "stored"
    STALE = "stale"  # it brings nothing any more
    UNCONNECTED = "unconnected"  # not anchored in what is held; another answer may bring the missing node
    REJECTED = "rejected"  # false: the peer is not to be trusted


class AppliedAnswer(Protocol):
    """What the log made of one answer."""

    @property
    def outcome(self) -> Enum: ...

    @property
    def error(self) -> ProofError | None: ...

    @property
    def upgraded(self) -> bool: ...

    @property
    def truncated_to(self) -> int | None: ...
