"""Two streams on a virtual network: everything arrives in order exactly once, or the stream says not."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2prss.net.udx.congestion import Mode
from p2prss.net.udx.events import CloseReason
from p2prss.net.udx.flight import MAX_UNACKED
from p2prss.net.udx.packet import ACK, SACK, encode, encode_ranges
from tests.net.udx.virtual_network import Path, VirtualNetwork

CLEAN = (CloseReason.ENDED, CloseReason.UNCONFIRMED)


def exchange(path: Path, there: bytes, back: bytes = b"", **options: object) -> VirtualNetwork:
    network = VirtualNetwork(path, **options)  # type: ignore[arg-type]  # options of the constructor
    network.a.send(there)
    network.b.send(back)
    network.a.end()
    network.b.end()
    network.run()
    return network


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    jitter=st.sampled_from([0.0, 0.005, 0.05]),
    twice=st.sampled_from([0.0, 0.1]),
    delay=st.sampled_from([0.0001, 0.02, 0.2]),
    sizes=st.tuples(st.integers(0, 300_000), st.integers(0, 50_000)),
    first_seq=st.sampled_from([0, 2**32 - 20]),
)
def test_any_path_carries_everything_both_ways(
    seed: int, loss: float, jitter: float, twice: float, delay: float, sizes: tuple[int, int], first_seq: int
) -> None:
    there, back = (Random(seed + side).randbytes(size) for side, size in enumerate(sizes))
    path = Path(loss=loss, jitter=jitter, twice=twice, delay=delay)
    network = exchange(path, there, back, seed=seed, first_seq=first_seq)
    assert network.received == {"a": back, "b": there}
    assert all(reason in CLEAN for reason in network.reasons)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.1, 0.3]),
    jitter=st.sampled_from([0.0, 0.01]),
    twice=st.sampled_from([0.0, 0.05]),
    first_seq=st.sampled_from([0, 2**32 - 1000]),
)
def test_more_gaps_than_a_list_can_tell_of_are_filled(
    seed: int, loss: float, jitter: float, twice: float, first_seq: int
) -> None:
    there = Random(seed).randbytes(1_500_000)
    path = Path(loss=loss, jitter=jitter, twice=twice)
    network = exchange(path, there, seed=seed, first_seq=first_seq)
    assert network.received == {"a": b"", "b": there}
    assert all(reason in CLEAN for reason in network.reasons)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_only_what_was_lost_goes_again(loss: float, seed: int) -> None:
    size = 8_000_000
    network = exchange(Path(loss=loss, rate=1e8, queue=1 << 22), bytes(size), seed=seed)
    assert network.received["b"] == bytes(size)
    assert network.doubled < 0.01 * size / 1452
    assert network.now < 1.5


@pytest.mark.parametrize(("jitter", "seconds"), [(0.01, 1.0), (0.05, 1.5)])
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_what_is_only_late_does_not_go_again(jitter: float, seconds: float, loss: float) -> None:
    size = 1_500_000
    network = exchange(Path(loss=loss, jitter=jitter), bytes(size), seed=3)
    assert network.received["b"] == bytes(size)
    assert network.doubled < 0.02 * size / 1452
    assert network.now < seconds


@pytest.mark.parametrize("cut", [0.0, 0.05, 0.3, 0.5])
def test_a_path_that_ends_is_reported(cut: float) -> None:
    network = VirtualNetwork(Path(until=cut, rate=1e6))
    network.a.send(bytes(2_000_000))
    network.a.end()
    network.run()
    assert network.a.close_reason is CloseReason.TIMED_OUT
    assert network.now < cut + 25
    assert bytes(2_000_000).startswith(bytes(network.received["b"]))


def test_a_lost_last_acknowledgement_is_repeated_by_the_ghost() -> None:
    reasons = [exchange(Path(loss=0.1), b"x", b"y", seed=seed).reasons for seed in range(60)]
    assert {reason for pair in reasons for reason in pair} == {CloseReason.ENDED}


def test_without_a_ghost_both_ends_still_end_without_an_error() -> None:
    networks = [exchange(Path(loss=0.2), b"x", b"y", seed=seed, ghosts=False) for seed in range(60)]
    reasons = {reason for network in networks for reason in network.reasons}
    assert reasons == {CloseReason.ENDED, CloseReason.UNCONFIRMED}
    assert all(network.received == {"a": b"y", "b": b"x"} for network in networks)


@pytest.mark.parametrize(("loss", "least"), [(0.0, 0.85), (0.01, 0.8), (0.05, 0.7)])
def test_a_bottleneck_is_used_and_not_flooded(loss: float, least: float) -> None:
    size, rate = 12_000_000, 2_500_000
    network = exchange(Path(rate=rate, loss=loss, delay=0.02, queue=100_000), bytes(size))
    assert bytes(network.received["b"]) == bytes(size)
    used = size / network.now / rate
    assert used > least * (1 - loss)
    resent = network.a.sender.resent_count / (size / 1452)
    assert resent < loss + 0.12


def test_two_round_trips_find_the_largest_packet() -> None:
    assert exchange(Path(), bytes(500_000)).a.sender.mtu.mtu == 1500


@pytest.mark.parametrize(("link_mtu", "mtu"), [(1500, 1500), (1420, 1420), (1100, 1200), (65536, 2076)])
def test_no_packet_is_larger_than_the_link_and_the_reference_take(link_mtu: int, mtu: int) -> None:
    network = exchange(Path(mtu=link_mtu + 100), bytes(500_000), link_mtu=link_mtu)
    assert network.a.sender.mtu.mtu == mtu
    assert network.a.sender.resent_count == 0
    assert network.largest <= 2048


@pytest.mark.parametrize(("link_mtu", "held"), [(1500, 900), (65536, 480)])
def test_on_a_short_path_the_socket_of_the_reference_holds_what_is_under_way(
    link_mtu: int, held: int
) -> None:
    network = VirtualNetwork(Path(delay=0.0001, mtu=link_mtu), link_mtu=link_mtu)
    network.a.send(bytes(20_000_000))
    most = 0
    for step in range(1, 400):
        network.run(until=step * 0.0001)
        most = max(most, network.a.sender.flight.in_flight)
    assert network.a.sender.mtu.payload_size > 1400
    assert held // 2 < most < held


@pytest.mark.parametrize("way", [1500, 1700, 2000])
def test_a_way_narrower_than_our_link_costs_few_probes(way: int) -> None:
    network = exchange(Path(mtu=way), bytes(2_000_000), link_mtu=9000)
    assert bytes(network.received["b"]) == bytes(2_000_000)
    assert way - 200 < network.a.sender.mtu.mtu <= way
    assert network.a.sender.resent_count <= 3


@pytest.mark.parametrize("mtu", [1200, 1300, 1400, 1492])
def test_packets_that_are_too_large_for_the_way_stop_nothing(mtu: int) -> None:
    network = exchange(Path(mtu=mtu), bytes(2_000_000))
    assert bytes(network.received["b"]) == bytes(2_000_000)
    assert mtu - 32 < network.a.sender.mtu.mtu <= mtu


def test_a_slow_reader_stops_the_sender() -> None:
    network = VirtualNetwork(Path(), window=100_000)
    network.reading["b"] = False
    network.a.send(bytes(1_000_000))
    network.run(until=30.0)
    assert 90_000 < network.b.receiver.unread_bytes < 100_000 + 2 * 1472
    assert not network.a.closed
    network.reading["b"] = True
    network.a.end()
    network.b.end()
    network.run()
    assert len(network.received["b"]) == 1_000_000


def test_half_closed_streams_still_carry() -> None:
    network = VirtualNetwork(Path())
    network.a.end()
    network.run(until=1.0)
    assert network.b.receiver.ended
    network.b.send(bytes(100_000))
    network.run(until=2.0)
    assert len(network.received["a"]) == 100_000
    network.b.end()
    network.run()
    assert network.reasons == (CloseReason.ENDED, CloseReason.ENDED)


def test_destroy_reaches_the_peer_once_it_says_something() -> None:
    network = VirtualNetwork(Path())
    network.path.until = 0.0  # the DESTROY itself is lost
    network.a.destroy()
    network.flush()
    network.path.until = 1e9
    network.b.send(b"still there?")
    network.run()
    assert network.reasons == (CloseReason.DESTROYED, CloseReason.RESET)


def test_a_stream_moves_to_another_address_under_load() -> None:
    network = VirtualNetwork(Path(loss=0.02))
    network.a.send(bytes(300_000))
    network.run(until=0.08)
    assert network.a.sender.flight.unacked
    network.a.change_remote(2, "b", network.now)
    network.a.end()
    network.b.end()
    network.run()
    assert len(network.received["b"]) == 300_000
    assert not network.a.migrating


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=20, max_size=80), max_size=40), st.integers(0, 2**32))
def test_garbage_from_strangers_breaks_nothing(bodies: list[bytes], seed: int) -> None:
    network = VirtualNetwork(Path(loss=0.01), seed=seed)
    there = Random(seed).randbytes(60_000)
    network.a.send(there)
    network.a.end()
    network.b.end()
    for body in bodies:  # any kind but those that a stranger may forge: DATA, END and messages are bytes
        kind = body[2] & 0xF4 & ~0x10
        network.a.receive(encode(kind, 1, 1 << 20, 2**31, 2**31 + body[0], body[20:]), 0.0, "stranger")
        network.b.receive(encode(kind, 2, 1 << 20, 2**31, 2**31 + body[1], body[20:]), 0.0, "stranger")
    network.run()
    assert network.received["b"] == there


def test_a_peer_that_acknowledges_only_above_a_gap_cannot_make_us_keep_more() -> None:
    network = VirtualNetwork(Path())
    network.path.until = 0.0
    a = network.a
    a.send(bytes(200 << 20))
    now = 0.0
    for _ in range(20_000):
        a.data_to_send(now)
        now += 0.01
        if a.sender.flight.unacked > 1:
            ranges = encode_ranges([(1, a.sender.flight.next_seq)])
            a.receive(encode(SACK, 1, 2**32 - 1, 0, 0, ranges), now, "b")
        if a.deadline <= now:
            a.handle_timer(now)
    assert a.sender.flight.unacked <= MAX_UNACKED
    kept = sum(len(packet.payload) for packet in a.sender.flight._packets)
    assert kept < 2_000_000


def test_early_acknowledgements_do_not_open_the_window_for_ever() -> None:
    network = VirtualNetwork(Path())
    a = network.a
    a.send(bytes(500 << 20))
    now = 0.0
    for _ in range(3000):
        a.data_to_send(now)
        now += 0.0001
        a.receive(encode(ACK, 1, 2**32 - 1, 0, a.sender.flight.next_seq), now, "b")
    assert a.sender.congestion.window <= 16_384
    assert a.sender.congestion.mode in set(Mode)
