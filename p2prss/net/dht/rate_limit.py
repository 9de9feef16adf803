"""How many bytes a node answers to one host: nobody can be buried under replies it did not ask for.

A source address can be forged. Until a host has shown that it receives what we send it (by a token, or by
answering a question of ours) its budget is small: that is the most a victim gets from this node. A host that
used half of it is asked for proof, with a ping.
"""

from collections import OrderedDict
from math import inf
from typing import Final

from p2prss.units import KIB, MIB

UNPROVEN_RATE: Final = 8 * KIB  # bytes per second answered to a host that has proven nothing
UNPROVEN_BURST: Final = 64 * KIB  # bytes at once; some 50 lookups
PROVEN_RATE: Final = 256 * KIB  # the same for one that has; many may share a host
PROVEN_BURST: Final = 1 * MIB
PROVEN_SECONDS: Final = 600.0  # how long proof lasts
PROOF_PAUSE: Final = 30.0  # seconds until a host is asked for proof again
MAX_HOSTS: Final = 4096  # hosts remembered, about 300 bytes each; the longest silent one is forgotten


class _Budget:
    __slots__ = ("asked_at", "at", "bytes", "proven_until")

    def __init__(self, now: float) -> None:
        self.at = now
        self.bytes = float(UNPROVEN_BURST)
        self.proven_until = now
        self.asked_at = -inf


class ReplyLimit:
    """A token bucket per host."""

    def __init__(self) -> None:
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self.refused = 0  # replies

    def allows(self, host: str, size: int, now: float) -> bool:
        """Whether ``size`` bytes may be answered to a host; if so they are booked."""
        budget = self._of(host, now)
        proven = now < budget.proven_until
        rate, burst = (PROVEN_RATE, PROVEN_BURST) if proven else (UNPROVEN_RATE, UNPROVEN_BURST)
        budget.bytes = min(burst, budget.bytes + (now - budget.at) * rate)
        budget.at = now
        if budget.bytes < size:
            self.refused += 1
            return False
        budget.bytes -= size
        return True

    def should_ask(self, host: str, now: float) -> bool:
        """Whether it is time to ask a host for proof; if so the asking is noted."""
        budget = self._of(host, now)
        if now < budget.proven_until or budget.bytes > UNPROVEN_BURST / 2:
            return False
        if now - budget.asked_at < PROOF_PAUSE:
            return False
        budget.asked_at = now
        return True

    def prove(self, host: str, now: float) -> None:
        """A host has shown that it receives what is sent to it."""
        self._of(host, now).proven_until = now + PROVEN_SECONDS

    def _of(self, host: str, now: float) -> _Budget:
        budget = self._budgets.get(host)
        if budget is None:
            if len(self._budgets) >= MAX_HOSTS:
                self._budgets.popitem(last=False)
            budget = self._budgets[host] = _Budget(now)
        else:
            self._budgets.move_to_end(host)
        return budget
