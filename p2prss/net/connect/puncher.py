"""Punching a hole, with sockets: ``ClientPuncher`` for who dials, ``ServerPuncher`` for who is dialled.

An attempt has a socket of its own, registered with the DHT node, from which it asks some nodes how they see
it. The machines in ``client_punch`` and ``server_punch`` decide everything; here are the sockets, the
requests and the clock.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Final, Self

import trio

from p2prss.crypto.keys import PublicKey
from p2prss.errors import DecodeError, NetworkError
from p2prss.net.connect.client_punch import ClientPunch
from p2prss.net.connect.peer_stream import ConnectError
from p2prss.net.connect.punch_side import (
    SAMPLES,
    Action,
    Answer,
    Ask,
    Failed,
    OpenMore,
    Punched,
    PunchSettings,
    PunchSide,
    Reopen,
    SendProbes,
)
from p2prss.net.connect.punch_sockets import PunchSocket, PunchSockets
from p2prss.net.connect.server_punch import MAX_WAITING, ServerPunch
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import (
    NONCE_SIZE,
    HolepunchEnvelope,
    HolepunchInfo,
    HolepunchPayload,
    Mode,
)
from p2prss.net.dht.messages import Command
from p2prss.net.dht.records import peer_target
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.dht.requests import SENDS
from p2prss.net.udx.socket import UdxSocket

SKIPPED_NODES: Final = 5  # the newest are spared: many attempts would all ask the same
MANY_NODES: Final = 8  # from so many on
SAMPLING_ROUNDS: Final = 3  # of questions, as some are lost
TOKEN_SECRET_SIZE: Final = 32  # bytes
ONCE_SECONDS: Final = 5.0  # an answer to a message that is sent once is taken so long
MAX_UNANSWERED: Final = 2 * MAX_WAITING  # messages; the machine answers no more than wait


class Puncher:
    """What both sides have: an open socket, and an opinion on the NAT in front of it.

    ``open`` one of the two kinds. Memory: the sockets of ``PunchSockets``, and some KiB.
    """

    def __init__(
        self, machine: PunchSide, sockets: PunchSockets, secret: bytes, nursery: trio.Nursery
    ) -> None:
        self._machine = machine
        self._sockets = sockets
        self._dht = sockets.dht
        self._secret = secret
        self._nursery = nursery
        self._open: list[PunchSocket] = [sockets.take(self._take_probe)]
        self._sampling = trio.CancelScope()
        self._timer = trio.CancelScope()
        self._failed: str | None = None
        self._done = trio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, sockets: PunchSockets, *, secret: bytes, remote_firewall: int, has_relay: bool = False
    ) -> AsyncIterator[Self]:
        """Start an attempt; its sockets are closed with the block, except one given to ``sockets.keep``.

        Args: secret: ``holepunch_key(handshake hash)``; remote_firewall: from the remote's Noise payload;
        has_relay: a blind relay is being tried as well, so that a busy node is worth waiting for.
        Raises: NetworkError when no socket can be had.
        """
        settings = PunchSettings(
            remote_firewall=remote_firewall,
            firewalled=sockets.dht.firewalled,
            token_secret=token_bytes(TOKEN_SECRET_SIZE),
            random=sockets.random,
            random_punches=sockets.random_punches,
            accepts=sockets.accepts,
            has_relay=has_relay,
        )
        machine = cls._make_machine(settings, trio.current_time())
        puncher: Self | None = None
        try:
            async with trio.open_nursery() as nursery:
                puncher = cls(machine, sockets, secret, nursery)
                nursery.start_soon(puncher._sample)
                nursery.start_soon(puncher._keep_time)
                yield puncher
                nursery.cancel_scope.cancel()
        finally:
            machine.finish(trio.current_time())
            if puncher is not None:
                for socket in puncher._open:
                    sockets.release(socket)

    @classmethod
    def _make_machine(cls, settings: PunchSettings, now: float) -> PunchSide:
        raise NotImplementedError

    @property
    def socket(self) -> UdxSocket:
        """The attempt's first socket; another one after the NAT was found to be unsteady."""
        return self._open[0].udx_socket

    @property
    def socket_number(self) -> int:
        """The DHT node's number of it: a server sends its handshake reply from there."""
        number = self._open[0].number
        assert number is not None
        return number

    # -- what the machine wants

    def _perform(self, actions: list[Action]) -> None:
        """Do it, in order."""
        for action in actions:
            if isinstance(action, SendProbes):
                for to, number, low_ttl in action.probes:
                    if number < len(self._open):
                        self._open[number].probe(to, low_ttl=low_ttl)
            elif isinstance(action, Ask):
                self._ask(action)
            elif isinstance(action, Answer):
                self._answer(action)
            elif isinstance(action, Reopen):
                self._reopen()
            elif isinstance(action, OpenMore):
                self._open_more(action.count)
            elif isinstance(action, Punched):
                self._punched(action)
            elif isinstance(action, Failed):
                self._failed = action.reason
                self._done.set()
        self._timer.deadline = self._machine.deadline

    def _ask(self, ask: Ask) -> None:
        """Send a client's round."""

    def _answer(self, answer: Answer) -> None:
        """Answer a round, as the server."""

    def _punched(self, punched: Punched) -> None:
        """There is a way, for the client."""

    def _reopen(self) -> None:
        old = self._open[0]
        try:
            self._open[0] = self._sockets.take(self._take_probe)
        except NetworkError:
            pass  # the old one is asked about again, and judged the same
        else:
            self._sockets.release(old)
        self._sampling.cancel()
        self._nursery.start_soon(self._sample)

    def _open_more(self, count: int) -> None:
        for _ in range(count):
            try:
                self._open.append(self._sockets.take(self._take_probe, with_dht=False))
            except NetworkError:
                break  # the system has no more: fewer sockets are a smaller chance
        self._perform(self._machine.opened(len(self._open), trio.current_time()))

    def _take_probe(self, socket: PunchSocket, source: Endpoint) -> None:
        if socket in self._open:
            now = trio.current_time()
            self._perform(self._machine.probed(source, self._open.index(socket), now))

    def _seal(self, payload: HolepunchPayload) -> bytes:
        return payload.seal(self._secret, token_bytes(NONCE_SIZE))

    # -- tasks

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._machine.deadline) as self._timer:
                await trio.sleep_forever()
            self._perform(self._machine.handle_timer(trio.current_time()))

    async def _sample(self) -> None:
        """Ask nodes how they see our socket; if too few answer, others."""
        number = self.socket_number
        with trio.CancelScope() as self._sampling:
            nodes = self._dht.recent_nodes(SKIPPED_NODES + 3 * SAMPLES)
            if len(nodes) >= MANY_NODES:
                nodes = nodes[SKIPPED_NODES:] + nodes[:SKIPPED_NODES]
            for _ in range(SAMPLING_ROUNDS):
                missing = SAMPLES - self._machine.sampler.sampled
                asked, nodes = nodes[: max(missing, 0)], nodes[max(missing, 0) :]
                async with trio.open_nursery() as nursery:
                    for node in asked:
                        nursery.start_soon(self._ask_about_us, node, number)
            self._perform(self._machine.sampling_over(trio.current_time()))

    async def _ask_about_us(self, node: Endpoint, number: int) -> None:
        try:
            response = await self._dht.ping(node, socket=number, sends=1)
        except NetworkError:
            return
        now = trio.current_time()
        self._perform(self._machine.sampled(response.reply.to, response.source, now))


class ClientPuncher(Puncher):
    """The side that dials."""

    _machine: ClientPunch
    _target = b""
    _slot = 0
    _way: tuple[UdxSocket, Endpoint] | None = None

    @classmethod
    def _make_machine(cls, settings: PunchSettings, _now: float) -> PunchSide:
        return ClientPunch(settings)

    async def punch(
        self,
        public_key: PublicKey,
        holepunch: HolepunchInfo,
        *,
        relay: Endpoint,
        server_address: Endpoint,
        fast: bool = True,
    ) -> tuple[UdxSocket, Endpoint]:
        """Make the hole: the socket and address to connect the stream with. Then ``sockets.keep`` the socket.

        Args: holepunch: of the server's Noise payload; relay: the node that relayed the handshake;
        server_address: ``peer_address`` of its reply; fast: tell the server at once where we saw it, which
        mostly saves a second.
        Raises: ConnectError, after a minute at most (later when ``has_relay``).
        """
        self._target, self._slot = peer_target(public_key), holepunch.id
        now = trio.current_time()
        relays = holepunch.relays
        self._perform(
            self._machine.start(relays, relay=relay, server_address=server_address, fast=fast, now=now)
        )
        await self._done.wait()
        if self._way is None:
            raise ConnectError(self._failed or "holepunch-aborted")
        return self._way

    def _ask(self, ask: Ask) -> None:
        self._nursery.start_soon(self._send_round, ask, self.socket_number)

    def _punched(self, punched: Punched) -> None:
        self._way = self._open[punched.socket].udx_socket, punched.address
        self._done.set()

    async def _send_round(self, ask: Ask, number: int) -> None:
        """Send it and wait for the answer, which the server's own socket sends through the relay."""
        payload = self._seal(ask.payload)
        value = HolepunchEnvelope(Mode.FROM_CLIENT, self._slot, payload, ask.peer_address).encode()
        try:
            response = await self._dht.request(
                ask.relay,
                Command.PEER_HOLEPUNCH,
                target=self._target,
                value=value,
                socket=number,
                relayed=True,
                sends=1 if ask.once else SENDS,
                patience=ONCE_SECONDS if ask.once else None,
            )
            envelope = HolepunchEnvelope.decode(response.reply.value or b"")
            answer = HolepunchPayload.open(envelope.payload, self._secret)
        except (NetworkError, DecodeError):
            self._perform(self._machine.lost(trio.current_time()))
            return
        now = trio.current_time()
        seen_as, source = response.reply.to, response.source
        self._perform(self._machine.receive(answer, envelope.peer_address, seen_as, source, now))


class ServerPuncher(Puncher):
    """The side that is dialled. Success is told by the stream: its firewall callback gets the socket."""

    _machine: ServerPunch

    def __init__(
        self, machine: PunchSide, sockets: PunchSockets, secret: bytes, nursery: trio.Nursery
    ) -> None:
        super().__init__(machine, sockets, secret, nursery)
        self._messages: dict[int, PeerMessage] = {}  # the machine bounds how many wait
        self._next_ticket = 0

    @classmethod
    def _make_machine(cls, settings: PunchSettings, now: float) -> PunchSide:
        return ServerPunch(settings, now)

    def handle(self, message: PeerMessage, *, from_own_relay: bool) -> None:
        """Take a PEER_HOLEPUNCH for this attempt, and answer it when there is something to say.

        Args: from_own_relay: ``message.source`` is one of the nodes we announced ourselves at: only what
        comes through those can prove where the client is.
        """
        envelope, client = message.envelope, message.envelope.peer_address
        if not isinstance(envelope, HolepunchEnvelope) or client is None:
            return
        try:
            payload = HolepunchPayload.open(envelope.payload, self._secret)
        except DecodeError:
            return
        now = trio.current_time()
        if message.socket == self._open[0].number:
            self._perform(self._machine.sampled(message.to, message.source, now))
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._messages[ticket] = message
        if len(self._messages) > MAX_UNANSWERED:
            del self._messages[min(self._messages)]
        self._perform(self._machine.receive(ticket, payload, client, from_own_relay=from_own_relay, now=now))

    async def wait_failed(self) -> None:
        """Until there is no hope; cancel it when the stream is connected.

        Raises: ConnectError: always, in the end. 10 seconds after ``open`` when the client does not punch.
        """
        await self._done.wait()
        raise ConnectError(self._failed or "holepunch-aborted")

    def _answer(self, answer: Answer) -> None:
        message = self._messages.pop(answer.ticket, None)
        if message is not None:
            self._dht.answer(message, self._seal(answer.payload), socket=self.socket_number)
