"""Can strangers reach us? Proof first, claims later.

Five nodes we know are asked from the client socket to answer to the *server* socket's port. Only if enough
answers arrive there, and they name one address with that very port, does the node call itself reachable,
use that socket for everything and, if it may, become persistent: with the hash of that address as its id.

Source: dht-rpc 6.27.0 index.js ``_updateNetworkState``, ``_checkIfFirewalled``; spec/07-net.
"""

from collections.abc import Callable
from typing import Final

from p2prss.net.dht.endpoint import node_id
from p2prss.net.dht.messages import Internal
from p2prss.net.dht.nat import AddressSampler
from p2prss.net.dht.requests import Response
from p2prss.net.dht.state import CLIENT, SERVER, NodeState

STABLE_SECONDS: Final = 20 * 60.0  # until an adaptive node becomes persistent
MORE_STABLE_SECONDS: Final = 60 * 60.0  # until a failed check of the same host is repeated
FIRST_RETRY: Final = 5.0  # seconds until a persistent-by-wish node tries again; doubled each time
RETRY_SECONDS: Final = 60.0  # likewise, at most
MOVED_SAMPLES: Final = 4  # answers about our address before we believe that it changed
ASKED: Final = 5  # nodes
NEEDED: Final = 3  # answers on the server socket; 1 when fewer than five could be asked


class Reachability:
    """Decides ``state.firewalled`` and ``state.ephemeral``.

    Args: on_moved: called when the table was rebuilt around a new own id; on_resample: when the samples of
    the client socket's address became worthless.
    """

    def __init__(
        self,
        state: NodeState,
        now: float,
        *,
        on_moved: Callable[[float], None],
        on_resample: Callable[[], None],
    ) -> None:
        self._state = state
        self._on_moved, self._on_resample = on_moved, on_resample
        self._started_at = now
        self._checked_host: str | None = None  # that failed
        self._checking = False
        self._next_check_at = now + STABLE_SECONDS
        self._pause = FIRST_RETRY

    def bootstrapped(self, now: float) -> None:
        """The table is filled for the first time: see how we are reached."""
        if self._state.config.ephemeral is False:
            self._next_check_at = now + self._pause
        self._check(now, final=False)

    def tick(self, now: float) -> None:
        """Every 5 seconds."""
        state = self._state
        if (
            not state.firewalled
            and state.public_endpoint is None
            and state.sampler.host is not None
            and len(state.sampler) >= MOVED_SAMPLES
        ):
            self._moved_away(now)
        if now < self._next_check_at or not self._wants_more():
            return
        self._pause = min(2 * self._pause, RETRY_SECONDS)
        self._next_check_at = now + (self._pause if state.config.ephemeral is False else MORE_STABLE_SECONDS)
        if self._checked_host is None or self._checked_host != state.sampler.host:
            self._check(now, final=state.config.ephemeral is not False)

    def wake(self, now: float) -> None:
        """The machine slept, perhaps somewhere else now."""
        self._checked_host = None
        self._started_at = now
        self._next_check_at = now + STABLE_SECONDS
        if self._state.config.public_endpoint is not None:
            return
        self._state.sampler = AddressSampler()
        if self._state.config.ephemeral is None:
            self._state.ephemeral = True

    def _wants_more(self) -> bool:
        state = self._state
        return state.firewalled or (state.ephemeral and state.config.ephemeral is not True)

    def _moved_away(self, now: float) -> None:
        """Most nodes see us at another address than the one that was proven: start over."""
        state = self._state
        state.firewalled = True
        state.ephemeral = True
        state.sampler = AddressSampler()
        self._on_resample()
        self._checked_host = None
        self._next_check_at = now + RETRY_SECONDS

    def _check(self, now: float, *, final: bool) -> None:
        """Ask for proof; when ``final``, a failure is not tried again from the same host."""
        state = self._state
        if self._checking or not self._wants_more():
            return
        if not state.firewalled:
            self._settle(now)
            return
        if state.config.single_socket or state.sampler.host is None or state.sampler.port == 0:
            return
        asked = [contact.endpoint for contact in state.table.newest(ASKED)]
        if len(asked) < ASKED:
            asked += [endpoint for endpoint in state.bootstraps if endpoint not in asked]
        needed = NEEDED if len(asked) >= ASKED else 1
        sampler, missing, pongs = AddressSampler(), len(asked), 0

        def answered(response: Response, now: float) -> None:
            nonlocal pongs
            if response.socket == SERVER:
                pongs += 1
                sampler.add(response.reply.to)
            done(now)

        def done(now: float) -> None:
            nonlocal missing
            missing -= 1
            if missing == 0:
                self._checking = False
                self._judge(sampler, pongs >= needed, final, now)

        self._checking = True
        value = state.config.server_port.to_bytes(2, "little")
        sent = [
            state.send_request(
                endpoint,
                Internal.PING_NAT,
                now,
                internal=True,
                value=value,
                socket=CLIENT,
                on_reply=answered,
                on_failure=done,
            )
            for endpoint in asked
        ]
        missing -= sent.count(None)
        if missing <= 0:
            self._checking = False

    def _judge(self, sampler: AddressSampler, enough: bool, final: bool, now: float) -> None:
        state = self._state
        if not enough or sampler.host != state.sampler.host or sampler.port != state.config.server_port:
            self._checked_host = state.sampler.host if final else None
            return
        state.firewalled = False
        state.sampler = sampler
        self._on_resample()
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Reachable: become persistent if we may and have been here long enough."""
        state, wish = self._state, self._state.config.ephemeral
        if wish is True or not state.ephemeral:
            return
        if wish is None and now - self._started_at < STABLE_SECONDS:
            return
        here = state.public_endpoint
        if here is None:
            return
        state.ephemeral = False
        own_id = node_id(here)
        if own_id != state.table.own_id:
            state.table = state.table.moved(own_id)
            self._on_moved(now)
