"""PEER_HANDSHAKE and PEER_HOLEPUNCH: handed to our own servers, or passed on between two others.

A relay keeps no state of an attempt: it forwards with the client's tid, and the last leg becomes the reply to
the client. It forwards only along routes it was told by a signed announcement, and to addresses it heard
from in the last minute: nobody can use it to send to a third party.

Source: hyperdht 6.34.0 lib/router.js; spec/07-net.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2prss.errors import DecodeError
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import HandshakeEnvelope, HolepunchEnvelope, Mode
from p2prss.net.dht.messages import Command, Request
from p2prss.net.dht.state import NodeState
from p2prss.net.dht.storage import Route

HEARD_SECONDS: Final = 60.0  # how long an address counts as one that wants to hear from us
MAX_HEARD: Final = 8192  # addresses, about 250 bytes each


@dataclass(frozen=True, slots=True)
class PeerMessage:
    """A handshake or punch message for one of our servers."""

    target: bytes  # hash of the server's public key
    envelope: HandshakeEnvelope | HolepunchEnvelope
    tid: int
    source: Endpoint  # the client, or a relay
    to: Endpoint  # our address as the source sees it
    socket: int  # it came in at

    @property
    def is_relayed(self) -> bool:
        return self.envelope.mode != Mode.FROM_CLIENT

    @property
    def client_address(self) -> Endpoint:
        """The client, as it or its relay is seen."""
        return self.envelope.peer_address if self.is_relayed and self.envelope.peer_address else self.source


PeerHandler = Callable[[PeerMessage, float], None]
"""Takes (message, now); answers with ``Relay.answer``, at once, later or never."""


class Relay:
    """Our servers by target, and the way to other nodes' servers."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._servers: dict[bytes, PeerHandler] = {}
        self._heard: OrderedDict[Endpoint, float] = OrderedDict()
        self.forwarded = 0  # messages
        self.refused = 0  # messages not forwarded

    def serve(self, target: bytes, handler: PeerHandler) -> None:
        """Take the messages for a server of ours; no announcement of others can divert them."""
        self._servers[target] = handler

    def unserve(self, target: bytes) -> None:
        self._servers.pop(target, None)

    def heard(self, source: Endpoint, now: float) -> None:
        """A datagram came from there."""
        self._heard[source] = now
        self._heard.move_to_end(source)
        if len(self._heard) > MAX_HEARD:
            self._heard.popitem(last=False)

    def receive(self, request: Request, source: Endpoint, socket: int, now: float) -> None:
        """Take a PEER_HANDSHAKE or PEER_HOLEPUNCH."""
        if request.value is None:
            return
        try:
            if request.command == Command.PEER_HANDSHAKE:
                handshake = HandshakeEnvelope.decode(request.value)
                if handshake.noise:
                    self._handshake(request, handshake, source, socket, now)
            else:
                self._holepunch(request, HolepunchEnvelope.decode(request.value), source, socket, now)
        except DecodeError:
            return

    def answer(self, message: PeerMessage, payload: bytes, now: float, *, socket: int | None = None) -> None:
        """Send our server's Noise or punch payload back the way the message came.

        Args: socket: where to send from, when not the socket it came in at.
        """
        via = message.socket if socket is None else socket
        envelope = message.envelope
        if isinstance(envelope, HolepunchEnvelope):
            value = HolepunchEnvelope(Mode.FROM_SERVER, 0, payload, envelope.peer_address).encode()
            self._state.send_raw_request(
                message.source, message.tid, Command.PEER_HOLEPUNCH, message.target, value, via
            )
            return
        if envelope.mode == Mode.FROM_CLIENT:
            value = HandshakeEnvelope(Mode.REPLY, payload).encode()
            self._state.send_reply(message.source, message.tid, via, now, value=value)
            return
        back = envelope.relay_address if envelope.mode == Mode.FROM_SECOND_RELAY else message.source
        if back is not None:
            value = HandshakeEnvelope(Mode.FROM_SERVER, payload, envelope.peer_address).encode()
            self._state.send_raw_request(
                back, message.tid, Command.PEER_HANDSHAKE, message.target, value, via
            )

    def _handshake(
        self, request: Request, envelope: HandshakeEnvelope, source: Endpoint, socket: int, now: float
    ) -> None:
        target = request.target or b""
        server = self._servers.get(target)
        if server is not None:
            if envelope.mode in (Mode.FROM_CLIENT, Mode.FROM_RELAY, Mode.FROM_SECOND_RELAY):
                server(PeerMessage(target, envelope, request.tid, source, request.to, socket), now)
            return
        route = self._state.store.route(target, now)
        noise = envelope.noise
        if envelope.mode == Mode.FROM_CLIENT:
            if route is None and envelope.relay_address is None:
                self._state.send_reply(source, request.tid, socket, now, target=request.target)
                return
            onward = HandshakeEnvelope(Mode.FROM_RELAY, noise, source)
            self._forward(request, onward.encode(), envelope.relay_address, route, socket, now)
        elif envelope.mode == Mode.FROM_RELAY and route is not None:
            onward = HandshakeEnvelope(Mode.FROM_SECOND_RELAY, noise, envelope.peer_address, source)
            self._forward(request, onward.encode(), None, route, socket, now)
        elif envelope.mode == Mode.FROM_SERVER:
            value = HandshakeEnvelope(Mode.REPLY, noise, source).encode()
            self._deliver(request, value, envelope.peer_address, socket, now)

    def _holepunch(
        self, request: Request, envelope: HolepunchEnvelope, source: Endpoint, socket: int, now: float
    ) -> None:
        target = request.target or b""
        if envelope.mode == Mode.FROM_CLIENT:
            route = self._state.store.route(target, now)
            onward = HolepunchEnvelope(Mode.FROM_RELAY, envelope.id, envelope.payload, source)
            self._forward(request, onward.encode(), envelope.peer_address, route, socket, now)
        elif envelope.mode == Mode.FROM_RELAY:
            server = self._servers.get(target)
            if server is not None and envelope.peer_address is not None:
                server(PeerMessage(target, envelope, request.tid, source, request.to, socket), now)
        elif envelope.mode == Mode.FROM_SERVER:
            value = HolepunchEnvelope(Mode.REPLY, envelope.id, envelope.payload, source).encode()
            self._deliver(request, value, envelope.peer_address, socket, now)

    def _forward(
        self,
        request: Request,
        value: bytes,
        named: Endpoint | None,
        route: Route | None,
        socket: int,
        now: float,
    ) -> None:
        """Pass on as a request: where the message says, else where the server's announcement came from.

        The datagram is booked on the budget of whom it is for.
        """
        if named is None and route is not None:
            to = route.relay
        elif named is not None and (
            (route is not None and named == route.relay) or self._is_heard(named, now)
        ):
            to = named
        else:
            self.refused += 1
            return
        if not self._state.limit.allows(to.host, len(value), now):
            self.refused += 1
            return
        self.forwarded += 1
        self._state.send_raw_request(to, request.tid, request.command, request.target, value, socket)

    def _deliver(self, request: Request, value: bytes, to: Endpoint | None, socket: int, now: float) -> None:
        """The last leg: a reply to the client."""
        if to is not None and self._is_heard(to, now):
            self.forwarded += 1
            self._state.send_reply(to, request.tid, socket, now, value=value)
        else:
            self.refused += 1

    def _is_heard(self, to: Endpoint, now: float) -> bool:
        at = self._heard.get(to)
        return at is not None and now - at <= HEARD_SECONDS
