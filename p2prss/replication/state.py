"""What the parts that replicate one log share: the log, its peers, what is wanted and what is on its way."""

from typing import TYPE_CHECKING

from p2prss.replication.core import ReplicatedCore
from p2prss.replication.downloads import Downloads
from p2prss.replication.events import Event
from p2prss.replication.limits import MAX_BLOCK_BYTES, Limits
from p2prss.replication.peer import Peer
from p2prss.replication.wants import Want, Wants

if TYPE_CHECKING:
    from random import Random


class State:
    """The state of one log's replication; it decides nothing."""

    def __init__(self, core: ReplicatedCore, limits: Limits, random: "Random", *, allow_fork: bool) -> None:
        self.core = core
        self.limits = limits
        self.random = random
        self.allow_fork = allow_fork  # follow peers to a higher fork
        self.events: list[Event] = []  # for the shell, in order
        self.peers: dict[int, Peer] = {}
        self.wants = Wants()
        self.downloads = Downloads(core, limits, self.events)
        self.renew_head()

    def renew_head(self) -> None:
        """The log may have another head."""
        self.head = head = self.core.head
        # The mean size of a block, in bytes, as far as requests and answers are planned by it
        self.block_bytes = min(head.byte_length // head.length, MAX_BLOCK_BYTES) if head.length else 0

    def first_index(self, want: Want, peer: Peer) -> int:
        """Where to look first for a block of a want that a peer has; unless linear, anywhere in it."""
        if want.linear or want.stop is None or peer.number in want.cursors:
            return want.start
        return self.random.randrange(want.start, max(want.start + 1, want.stop_at(self.head.length)))
