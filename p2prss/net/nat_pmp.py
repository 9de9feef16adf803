"""NAT-PMP as a machine: ask the gateway to forward a port, renew at half the lease, give it back at the end.

Participants: this machine and the gateway of its network, which is believed no more than any stranger.
Goals: one port of one transport. Non-goals: PCP, announcements of a gateway that restarted (a renewal finds
out), and gateways that speak another version, which say so and are left alone.

Source: RFC 6886, sections 3.1 to 3.5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from math import inf
from struct import Struct
from typing import Final

from p2prss.errors import DecodeError

GATEWAY_PORT: Final = 5351  # UDP, of every gateway
LEASE_SECONDS: Final = 3600  # asked for; a network that changed is noticed at half of it
LONGEST_LEASE: Final = 24 * 3600  # seconds we believe, whatever is granted
SHORTEST_PAUSE: Final = 30.0  # seconds between renewals, however short the lease
FIRST_TIMEOUT: Final = 0.25  # seconds, doubled with each repeat
SENDS: Final = 5  # of one question, together 7.75 seconds
RELEASE_SENDS: Final = 2  # when giving back: the program is about to end

_VERSION: Final = 0
_ANSWER: Final = 128  # added to the opcode
_ADDRESS: Final = 0  # opcode
_HEAD: Final = Struct(">BBH")  # version, opcode, result
_ADDRESS_ANSWER: Final = Struct(">BBHI4s")  # … epoch, host
_MAP_ANSWER: Final = Struct(">BBHIHHI")  # … epoch, internal port, external port, seconds
_MAP_REQUEST: Final = Struct(">BBHHHI")  # version, opcode, reserved, internal port, external port, seconds

_REFUSALS: Final = {
    1: "speaks another version of NAT-PMP",
    2: "does not allow it",
    3: "has no connection itself",
    4: "has no room for more mappings",
    5: "does not know how",
}


class Transport(IntEnum):
    """What is forwarded; the value is the opcode that asks for it."""

    UDP = 1
    TCP = 2


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the gateway that leads to one of ours."""

    transport: Transport
    internal_port: int
    host: str  # IPv4 text, the gateway's outside
    port: int  # there
    seconds: int  # granted

    @property
    def public(self) -> bool:
        """Whether the host is one of the internet: behind a second NAT it is not."""
        return IPv4Address(self.host).is_global

    def __str__(self) -> str:
        return f"{self.transport.name} {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """The gateway's outside address. Wire: 0 | 128 | result u16 | epoch u32 | host, 4 bytes; 3.2."""

    host: str


@dataclass(frozen=True, slots=True)
class MapAnswer:
    """A mapping. Wire: 0 | 129 or 130 | result u16 | epoch u32 | inner u16 | outer u16 | seconds u32; 3.3."""

    transport: Transport
    internal_port: int
    external_port: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A result other than success; nothing behind it is read."""

    opcode: int
    result: int

    def __str__(self) -> str:
        return _REFUSALS.get(self.result, f"refuses, with code {self.result}")


Answer = AddressAnswer | MapAnswer | Refusal


def encode_address_request() -> bytes:
    """What is your outside address? Two bytes."""
    return bytes([_VERSION, _ADDRESS])


def encode_map_request(transport: Transport, internal_port: int, external_port: int, seconds: int) -> bytes:
    """Forward a port for so long; 0 seconds, with external port 0, gives it back. Twelve bytes."""
    return _MAP_REQUEST.pack(_VERSION, transport, 0, internal_port, external_port, seconds)


def decode_answer(data: bytes) -> Answer:
    """One datagram of a gateway.

    Raises: DecodeError when it is none of the answers there are.
    """
    if len(data) < _HEAD.size:
        raise DecodeError(f"an answer of {len(data)} bytes", offset=len(data))
    version, opcode, result = _HEAD.unpack_from(data)
    if opcode - _ANSWER not in (_ADDRESS, *Transport):
        raise DecodeError(f"opcode {opcode} is no answer", offset=1)
    if version != _VERSION or result:
        return Refusal(opcode - _ANSWER, result or 1)
    layout = _ADDRESS_ANSWER if opcode == _ANSWER + _ADDRESS else _MAP_ANSWER
    if len(data) != layout.size:
        raise DecodeError(f"{len(data)} bytes instead of {layout.size}", offset=min(len(data), layout.size))
    if layout is _ADDRESS_ANSWER:
        return AddressAnswer(str(IPv4Address(layout.unpack(data)[4])))
    _, _, _, _, internal_port, external_port, seconds = layout.unpack(data)
    return MapAnswer(Transport(opcode - _ANSWER), internal_port, external_port, seconds)


class Phase(Enum):
    """What a mapper waits for."""

    ADDRESS = "the outside address"
    MAPPING = "the mapping"
    MAPPED = "the time to renew"
    RELEASING = "the end of the mapping"
    CLOSED = "nothing"


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping is there, or renewed."""

    mapping: PortMapping


@dataclass(frozen=True, slots=True)
class Failed:
    """None is to be had, or no longer; the machine is closed."""

    reason: str  # goes on after "the gateway"


Event = Mapped | Failed


class PortMapper:
    """One mapping at one gateway, driven by the caller (release), the gateway (receive) and the clock.

    Args: gateway: its (host, port); whatever comes from elsewhere is not looked at.
    """

    def __init__(self, transport: Transport, port: int, gateway: tuple[str, int], now: float) -> None:
        self.phase = Phase.CLOSED
        self.deadline = inf
        self.mapping: PortMapping | None = None
        self.ignored = 0  # datagrams that made no sense, or were not what was asked for
        self._transport, self._port, self._gateway = transport, port, gateway
        self._host = ""
        self._sends_left, self._timeout = 0, 0.0
        self._outbox: list[bytes] = []
        self._ask(Phase.ADDRESS, now)

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.phase is Phase.CLOSED

    def data_to_send(self) -> list[bytes]:
        """Datagrams for the gateway, each once."""
        data, self._outbox = self._outbox, []
        return data

    def receive(self, data: bytes, source: tuple[str, int], now: float) -> list[Event]:
        """Take one datagram; no bytes from anywhere can raise."""
        try:
            answer = decode_answer(data) if source == self._gateway else None
        except DecodeError:
            answer = None
        handle = self._handler(answer)
        if handle is None:
            self.ignored += 1
            return []
        return handle(now)

    def handle_timer(self, now: float) -> list[Event]:
        """The deadline has come."""
        if now < self.deadline:
            return []
        if self.phase is Phase.MAPPED:
            self._ask(Phase.ADDRESS, now)
        elif self._sends_left:
            self._send(now)
        elif self.phase is Phase.RELEASING:
            self._close()
        else:
            return self._fail("does not answer")
        return []

    def release(self, now: float) -> None:
        """Give the port back; the machine is closed once that is known, or nobody answers."""
        if self.mapping is None and self.phase is not Phase.MAPPING:  # what was asked for may be on its way
            self._close()
        else:
            self.mapping = None
            self._ask(Phase.RELEASING, now)

    def _handler(self, answer: Answer | None) -> Callable[[float], list[Event]] | None:
        """What is to be done about an answer; None when it is not the one that is waited for."""
        opcode = _ADDRESS if self.phase is Phase.ADDRESS else int(self._transport)
        waiting = self.phase in (Phase.ADDRESS, Phase.MAPPING, Phase.RELEASING)
        match answer:
            case Refusal() if waiting and answer.opcode == opcode:
                return lambda _now: self._refused(answer)
            case AddressAnswer(host) if self.phase is Phase.ADDRESS:
                return lambda now: self._located(host, now)
            case MapAnswer() if (answer.transport, answer.internal_port) != (self._transport, self._port):
                return None
            case MapAnswer() if self.phase is Phase.MAPPING:
                return lambda now: self._granted(answer, now)
            case MapAnswer(seconds=0) if self.phase is Phase.RELEASING:
                return lambda _now: self._close()
            case _:
                return None

    def _located(self, host: str, now: float) -> list[Event]:
        self._host = host
        self._ask(Phase.MAPPING, now)
        return []

    def _granted(self, answer: MapAnswer, now: float) -> list[Event]:
        if not answer.seconds or not answer.external_port or self._host == "0.0.0.0":
            return self._fail("grants nothing of use")
        seconds = min(answer.seconds, LONGEST_LEASE)
        self.mapping = PortMapping(self._transport, self._port, self._host, answer.external_port, seconds)
        self.phase = Phase.MAPPED
        self.deadline = now + max(seconds / 2, SHORTEST_PAUSE)
        return [Mapped(self.mapping)]

    def _refused(self, refusal: Refusal) -> list[Event]:
        return self._close() if self.phase is Phase.RELEASING else self._fail(str(refusal))

    def _fail(self, reason: str) -> list[Event]:
        self._close()
        return [Failed(reason)]

    def _close(self) -> list[Event]:
        self.phase, self.deadline, self.mapping = Phase.CLOSED, inf, None
        return []

    def _ask(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self._sends_left = RELEASE_SENDS if phase is Phase.RELEASING else SENDS
        self._timeout = FIRST_TIMEOUT
        self._send(now)

    def _send(self, now: float) -> None:
        if self.phase is Phase.ADDRESS:
            self._outbox.append(encode_address_request())
        else:
            gives_back = self.phase is Phase.RELEASING
            external = 0 if gives_back else self.mapping.port if self.mapping else self._port
            seconds = 0 if gives_back else LEASE_SECONDS
            self._outbox.append(encode_map_request(self._transport, self._port, external, seconds))
        self._sends_left -= 1
        self.deadline = now + self._timeout
        self._timeout *= 2
