"""The boxes of the NAT bed are what their names say."""

from random import Random

import pytest

from tests.net.nat.boxes import IDLE_SECONDS, MAKERS, Box
from tests.net.nat.packets import Address, Packet, read_packet, write_packet

INSIDE = Address("192.168.1.2", 5000)
A, B = Address("5.0.0.1", 80), Address("5.0.0.1", 81)


def make(kind: str) -> Box:
    return MAKERS[kind](None if kind == "firewall" else "5.9.9.9", Random(1))


def out(box: Box, to: Address, now: float = 0.0) -> Address:
    return box.outbound(Packet(INSIDE, to, 64, b""), now).source


def back(box: Box, source: Address, to: Address, now: float = 0.0) -> Address | None:
    packet = box.inbound(Packet(source, to, 64, b""), now)
    return None if packet is None else packet.destination


@pytest.mark.parametrize("kind", ["steady", "full-cone"])
def test_a_steady_nat_has_one_port_for_all(kind: str) -> None:
    box = make(kind)
    assert out(box, A) == out(box, B)


def test_a_random_nat_has_a_port_for_each() -> None:
    box = make("random")
    assert out(box, A) != out(box, B)
    assert out(box, A) == out(box, A)


def test_a_firewall_translates_nothing() -> None:
    assert out(make("firewall"), A) == INSIDE


@pytest.mark.parametrize("kind", ["firewall", "steady", "random"])
def test_only_who_was_asked_gets_in(kind: str) -> None:
    box = make(kind)
    public = out(box, A)
    assert back(box, A, public) == INSIDE
    assert back(box, B, public) is None
    assert box.dropped == 1


def test_a_full_cone_lets_everybody_in() -> None:
    box = make("full-cone")
    assert back(box, B, out(box, A)) == INSIDE


def test_holes_close_when_nothing_leaves() -> None:
    box = make("steady")
    public = out(box, A)
    assert back(box, A, public, IDLE_SECONDS) == INSIDE
    assert back(box, A, public, IDLE_SECONDS + 1) is None
    assert out(box, A, IDLE_SECONDS + 1) != public


@pytest.mark.parametrize("size", [0, 1, 1400])
def test_packets_are_read_as_they_were_written(size: int) -> None:
    packet = Packet(INSIDE, A, 64, bytes(size))
    assert read_packet(write_packet(packet)) == packet


@pytest.mark.parametrize("data", [b"", bytes(40), b"\x45" * 27])
def test_what_is_no_udp_is_left_out(data: bytes) -> None:
    assert read_packet(data) is None
