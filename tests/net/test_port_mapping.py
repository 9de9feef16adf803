"""Ports forwarded by a router: the machine, and the shell with a gateway on loopback that may be hostile."""

import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import Final

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import DecodeError
from p2prss.net import port_mapping
from p2prss.net.nat_pmp import (
    LEASE_SECONDS,
    LONGEST_LEASE,
    SHORTEST_PAUSE,
    AddressAnswer,
    Failed,
    MapAnswer,
    Mapped,
    Phase,
    PortMapper,
    PortMapping,
    Refusal,
    Transport,
    decode_answer,
    encode_address_request,
    encode_map_request,
)
from p2prss.net.port_mapping import keep_port_mapped, parse_default_gateway

HOST: Final = "127.0.0.1"
GATEWAY: Final = ("192.168.1.1", 5351)
OUTSIDE: Final = "93.184.216.34"
PORT: Final = 49737
PATIENCE: Final = 20  # seconds, for what takes a fraction of one


def address_answer(host: str = OUTSIDE, *, result: int = 0) -> bytes:
    return struct.pack(">BBHI4B", 0, 128, result, 77, *map(int, host.split(".")))


def map_answer(
    port: int = PORT, *, outer: int = PORT, seconds: int = LEASE_SECONDS, result: int = 0, opcode: int = 129
) -> bytes:
    return struct.pack(">BBHIHHI", 0, opcode, result, 77, port, outer, seconds)


# ---- bytes


def test_the_messages_of_the_standard() -> None:
    """The layouts of RFC 6886, sections 3.2 and 3.3."""
    assert encode_address_request() == bytes(2)
    asked = encode_map_request(Transport.UDP, 0x1234, 0x5678, 7200)
    assert asked == bytes.fromhex("0001 0000 1234 5678 00001c20")
    assert encode_map_request(Transport.TCP, 1, 0, 0) == bytes.fromhex("0002 0000 0001 0000 00000000")
    assert decode_answer(bytes.fromhex("0080 0000 00000009 5db8d822")) == AddressAnswer(OUTSIDE)
    told = decode_answer(bytes.fromhex("0081 0000 00000009 1234 5678 00001c20"))
    assert told == MapAnswer(Transport.UDP, 0x1234, 0x5678, 7200)
    assert decode_answer(bytes.fromhex("0082 0002 00000009")) == Refusal(2, 2)
    assert decode_answer(bytes.fromhex("0281 0000")) == Refusal(1, 1)  # another version


@given(st.binary(max_size=32))
def test_any_bytes_give_an_answer_or_a_decode_error(data: bytes) -> None:
    with suppress(DecodeError):
        decode_answer(data)


@pytest.mark.parametrize("answer", [address_answer(), map_answer()], ids=["address", "mapping"])
def test_what_is_cut_short_or_has_more_is_no_answer(answer: bytes) -> None:
    for wrong in (*(answer[:size] for size in range(len(answer))), answer + b"\0"):
        with pytest.raises(DecodeError):
            decode_answer(wrong)


# ---- the machine


def mapper(now: float = 0.0) -> PortMapper:
    return PortMapper(Transport.UDP, PORT, GATEWAY, now)


def mapped(seconds: int = LEASE_SECONDS) -> PortMapper:
    one = mapper()
    one.receive(address_answer(), GATEWAY, 0.0)
    (event,) = one.receive(map_answer(seconds=seconds), GATEWAY, 0.0)
    assert isinstance(event, Mapped)
    one.data_to_send()
    return one


def test_a_port_is_mapped_and_renewed_at_half_the_lease() -> None:
    one = mapper()
    assert one.data_to_send() == [encode_address_request()]
    assert one.receive(address_answer(), GATEWAY, 1.0) == []
    assert one.data_to_send() == [encode_map_request(Transport.UDP, PORT, PORT, LEASE_SECONDS)]
    mapping = PortMapping(Transport.UDP, PORT, OUTSIDE, 5000, 600)
    assert one.receive(map_answer(outer=5000, seconds=600), GATEWAY, 2.0) == [Mapped(mapping)]
    assert (one.deadline, one.data_to_send()) == (302.0, [])
    assert one.handle_timer(301.0) == []
    one.handle_timer(302.0)
    one.receive(address_answer(), GATEWAY, 302.0)
    # it asks for the port it has been given, not for the one it wanted first
    renewal = encode_map_request(Transport.UDP, PORT, 5000, LEASE_SECONDS)
    assert one.data_to_send() == [encode_address_request(), renewal]
    assert one.receive(map_answer(outer=5000, seconds=600), GATEWAY, 303.0) == [Mapped(mapping)]


def test_a_silent_gateway_is_asked_some_times_and_left_alone() -> None:
    one, now, times = mapper(), 0.0, []
    while not one.closed:
        times += [now] * len(one.data_to_send())
        now = one.deadline
        events = one.handle_timer(now)
    assert times == [0.0, 0.25, 0.75, 1.75, 3.75]
    assert (now, events) == (7.75, [Failed("does not answer")])


def test_the_port_is_given_back() -> None:
    one = mapped()
    one.release(5.0)
    assert one.data_to_send() == [encode_map_request(Transport.UDP, PORT, 0, 0)]
    assert one.receive(map_answer(), GATEWAY, 5.1) == []  # late, from before
    assert not one.closed
    one.receive(map_answer(outer=0, seconds=0), GATEWAY, 5.2)
    assert one.closed


def test_what_may_be_granted_in_this_moment_is_given_back_too() -> None:
    one = mapper()
    one.release(0.0)
    assert one.closed  # nothing was asked for yet
    one = mapper()
    one.receive(address_answer(), GATEWAY, 0.0)
    one.data_to_send()
    one.release(0.1)
    assert one.data_to_send() == [encode_map_request(Transport.UDP, PORT, 0, 0)]


HOSTILE: Final = {
    "from elsewhere": (map_answer(), ("192.168.1.66", 5351)),
    "from another port": (map_answer(), ("192.168.1.1", 5352)),
    "a request": (encode_map_request(Transport.UDP, PORT, PORT, 1), GATEWAY),
    "unknown opcode": (map_answer(opcode=131), GATEWAY),
    "of another transport": (map_answer(opcode=130), GATEWAY),
    "refusal of another question": (map_answer(opcode=130, result=2), GATEWAY),
    "of another port": (map_answer(4711), GATEWAY),
    "another question's": (address_answer(), GATEWAY),
    "cut short": (map_answer()[:15], GATEWAY),
    "too long": (map_answer() + bytes(1000), GATEWAY),
    "empty": (b"", GATEWAY),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_not_asked_for_changes_nothing(name: str) -> None:
    data, source = HOSTILE[name]
    one = mapper()
    one.receive(address_answer(), GATEWAY, 0.0)
    before = (one.phase, one.deadline)
    assert one.receive(data, source, 0.1) == []
    assert (one.phase, one.deadline, one.ignored) == (*before, 1)
    assert one.receive(map_answer(), GATEWAY, 0.2)  # the right one still counts


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (map_answer(result=2), "does not allow it"),
        (map_answer(result=4)[:4], "has no room for more mappings"),
        (map_answer(result=999), "refuses, with code 999"),
        (b"\2" + map_answer(result=1)[1:], "speaks another version of NAT-PMP"),
        (map_answer(outer=0), "grants nothing of use"),
        (map_answer(seconds=0), "grants nothing of use"),
    ],
)
def test_a_gateway_that_refuses_is_told_of_in_words(answer: bytes, reason: str) -> None:
    one = mapper()
    one.receive(address_answer(), GATEWAY, 0.0)
    one.data_to_send()
    assert one.receive(answer, GATEWAY, 0.1) == [Failed(reason)]
    assert (one.phase, one.data_to_send()) == (Phase.CLOSED, [])


def test_leases_are_kept_within_reason() -> None:
    assert mapped(1).deadline == SHORTEST_PAUSE  # no gateway can make us ask all the time
    assert mapped(2**32 - 1).deadline == LONGEST_LEASE / 2


@given(st.lists(st.tuples(st.binary(max_size=20), st.sampled_from([GATEWAY, ("10.0.0.1", 1)]))))
def test_no_datagrams_can_raise(datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
    one = mapper()
    for data, source in datagrams:
        one.receive(data, source, 0.0)


def test_an_outside_that_is_another_inside_is_not_public() -> None:
    assert PortMapping(Transport.UDP, 1, OUTSIDE, 1, 1).public
    for host in ("100.64.7.7", "192.168.0.2", "10.0.0.1"):
        assert not PortMapping(Transport.UDP, 1, host, 1, 1).public


# ---- the default route

HEAD: Final = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def test_the_gateway_is_that_of_the_best_default_route() -> None:
    routes = HEAD + (
        "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "tun0\t00000000\t0801080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"  # half the internet, by a VPN
        "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"  # no gateway on this link
    )
    assert parse_default_gateway(routes) == "192.168.1.1"
    assert parse_default_gateway(HEAD) is None


@given(st.text())
def test_routes_of_any_text_are_read(text: str) -> None:
    parse_default_gateway(text)
    parse_default_gateway(HEAD + text)


# ---- the shell

Respond = Callable[[bytes], list[bytes]]


class FakeGateway:
    """A gateway on loopback; ``respond`` makes the answers, ``stranger`` those from another socket."""

    def __init__(self, respond: Respond, stranger: Respond = lambda _: []) -> None:
        self.asked: list[bytes] = []
        self._respond, self._stranger = respond, stranger

    async def run(self, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        with (
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as own,
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other,
        ):
            await own.bind((HOST, 0))
            await other.bind((HOST, 0))
            task_status.started(own.getsockname())
            while True:
                request, client = await own.recvfrom(100)
                self.asked.append(request)
                for answer in self._stranger(request):
                    await other.sendto(answer, client)
                for answer in self._respond(request):
                    await own.sendto(answer, client)


def honest(request: bytes) -> list[bytes]:
    if len(request) == 2:
        return [address_answer()]
    _, opcode, _, inner, outer, seconds = struct.unpack(">BBHHHI", request)
    return [map_answer(inner, outer=outer, seconds=seconds, opcode=128 + opcode)]


@asynccontextmanager
async def mapping(gateway: FakeGateway) -> AsyncIterator[PortMapping | str]:
    """A port that is kept mapped until the block ends, then given back."""
    async with trio.open_nursery() as gateways:
        address = await gateways.start(gateway.run)
        async with trio.open_nursery() as nursery:

            async def keep(*, task_status: trio.TaskStatus[PortMapping | str]) -> None:
                await keep_port_mapped(
                    Transport.UDP,
                    PORT,
                    lambda _: None,
                    gateway=address,
                    upnp="miniupnpc" in sys.modules,
                    task_status=task_status,
                )

            with trio.fail_after(PATIENCE):
                yield await nursery.start(keep)
            nursery.cancel_scope.cancel()
        gateways.cancel_scope.cancel()


async def test_a_gateway_maps_and_gets_its_port_back() -> None:
    gateway = FakeGateway(honest)
    async with mapping(gateway) as outcome:
        assert outcome == PortMapping(Transport.UDP, PORT, OUTSIDE, PORT, LEASE_SECONDS)
    assert gateway.asked[-1] == encode_map_request(Transport.UDP, PORT, 0, 0)
    assert len(gateway.asked) == 3


async def test_lies_before_the_truth_are_passed_over() -> None:
    """Wrong opcodes, other ports, cut short, and the answers of a stranger in the gateway's network."""

    def lies(request: bytes) -> list[bytes]:
        truth = honest(request)
        other = address_answer() if len(request) == 12 else map_answer()
        wrong = [b"", b"\0", truth[0][:-1], truth[0] + b"\0", other, map_answer(1), map_answer(opcode=200)]
        return wrong + truth

    gateway = FakeGateway(lies, lambda request: [address_answer("6.6.6.6"), map_answer(outer=666)])
    async with mapping(gateway) as outcome:
        assert outcome == PortMapping(Transport.UDP, PORT, OUTSIDE, PORT, LEASE_SECONDS)


async def test_a_gateway_that_refuses_leaves_us_without() -> None:
    async with mapping(FakeGateway(lambda _: [address_answer(result=3)])) as outcome:
        assert outcome == "the router 127.0.0.1 has no connection itself"


async def test_a_gateway_without_the_protocol_is_known_at_once() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as closed:
        await closed.bind((HOST, 0))
        address = closed.getsockname()
    outcomes: list[PortMapping | str] = []
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(
                lambda task_status: keep_port_mapped(
                    Transport.TCP, 1, outcomes.append, gateway=address, upnp=False, task_status=task_status
                )
            )
        nursery.cancel_scope.cancel()
    assert outcomes == ["the router 127.0.0.1 speaks no NAT-PMP"]


async def test_without_a_route_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(port_mapping, "default_gateway", lambda: None)
    outcomes: list[PortMapping | str] = []
    with trio.move_on_after(port_mapping.RETRY_SECONDS * 1.5):
        await keep_port_mapped(Transport.UDP, 1, outcomes.append)
    assert len(outcomes) == 2  # and tried again later
    assert "no default route" in str(outcomes[0])


# ---- UPnP, with a library that is not there


class FakeUpnp(ModuleType):
    """As much of ``miniupnpc`` as is used."""

    outside = OUTSIDE
    leases = True

    def __init__(self) -> None:
        super().__init__("miniupnpc")
        self.calls: list[tuple[object, ...]] = []
        self.lanaddr = "192.168.1.5"
        self.discoverdelay = 0
        self.UPnP = lambda: self

    def discover(self) -> int:
        return 1

    def selectigd(self) -> str:
        return "http://192.168.1.1/"

    def externalipaddress(self) -> str:
        return self.outside

    def addportmapping(self, *words: object) -> bool:
        if len(words) == 7 and not self.leases:
            raise TypeError("function takes exactly 6 arguments (7 given)")
        self.calls.append(words)
        return True

    def deleteportmapping(self, *words: object) -> bool:
        self.calls.append(words)
        return True


def silent_pmp() -> FakeGateway:
    return FakeGateway(lambda _: [address_answer(result=5)])


@pytest.mark.parametrize("leases", [True, False])
async def test_upnp_is_asked_when_the_gateway_speaks_nothing_better(
    leases: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeUpnp()
    fake.leases = leases
    monkeypatch.setitem(sys.modules, "miniupnpc", fake)
    async with mapping(silent_pmp()) as outcome:
        assert outcome == PortMapping(Transport.UDP, PORT, OUTSIDE, PORT, LEASE_SECONDS)
    asked = (PORT, "UDP", "192.168.1.5", PORT, "p2prss", "")
    assert fake.calls == [(*asked, LEASE_SECONDS) if leases else asked, (PORT, "UDP")]


async def test_a_upnp_gateway_that_talks_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeUpnp()
    fake.outside = "http://192.168.1.1/reboot"
    monkeypatch.setitem(sys.modules, "miniupnpc", fake)
    async with mapping(silent_pmp()) as outcome:
        assert "names no outside address" in str(outcome)


async def test_what_is_to_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "miniupnpc", None)  # as if it were not installed
    async with mapping(silent_pmp()) as outcome:
        assert "p2prss[upnp] is not installed" in str(outcome)
