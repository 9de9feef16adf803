"""Two machines punch through all kinds of NATs, and hostile remotes get few probes out of them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2prss.net.connect.client_punch import MAX_SECOND_ROUNDS
from p2prss.net.connect.probes import (
    GUESS_SECONDS,
    GUESSES,
    ROUNDS,
    GuessedPorts,
    RandomPunches,
    SpreadProbes,
    SteadyProbes,
    Target,
)
from p2prss.net.connect.punch_side import MAX_ADDRESSES, PunchSettings, SendProbes
from p2prss.net.connect.server_punch import MAX_MESSAGES, ServerPunch
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall, HandshakeError, HolepunchPayload
from tests.net.connect.punch_world import CLIENT_HOST, LATENCY, RELAYS, SERVER_HOST, World, forged

RANDOM_NAT = {"steady": False}
HERE = Endpoint("5.0.0.9", 4000)


def test_two_steady_nats_are_punched_at_once_by_the_servers_fast_answer() -> None:
    world = World()
    world.run()
    assert world.punched is not None
    assert world.punched.host == SERVER_HOST
    assert world.now < 0.3
    assert len(world.asked) <= 2


def test_without_the_fast_way_the_rounds_do_it() -> None:
    world = World(fast=False)
    world.run()
    assert world.punched is not None
    assert world.now < 0.5
    first, second = world.asked
    assert (first.payload.punching, second.payload.punching) == (False, True)
    assert second.payload.remote_token == world.answered[0].token
    assert world.answered[1].remote_token == second.payload.token


def test_a_relay_that_is_none_of_the_servers_proves_nothing() -> None:
    world = World(fast=False)
    world.own_relays = RELAYS[1:]
    world.run()
    assert world.now > 3.0  # an unverified address gets every fourth probe
    assert world.answered[0].token is not None  # by the server's own relay
    assert world.answered[1].token is None  # by the one the client found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", ["client", "server"])
def test_one_random_nat_is_hit_by_guessing(side: str, seed: int) -> None:
    world = World(**{side: RANDOM_NAT}, seed=seed)  # type: ignore[arg-type]  # one of two keywords
    world.run()
    assert world.punched is not None
    assert world.now < 40
    assert max(world.probes.values()) <= GUESSES + 300


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_socket_whose_nat_makes_no_sense_is_replaced(side: str) -> None:
    other = "server" if side == "client" else "client"
    world = World(**{side: {"shaky": True}, other: RANDOM_NAT})
    world.run()
    assert world.punched is not None
    assert not world.failed


def test_two_random_nats_are_given_up_by_both() -> None:
    world = World(client=RANDOM_NAT, server=RANDOM_NAT)
    world.run()
    assert world.failed[CLIENT_HOST] == "double-random"
    assert world.answered[-1].error == HandshakeError.ABORTED
    assert world.failed[SERVER_HOST] == "cannot-punch"
    assert world.now < 2


def test_a_network_that_says_nothing_of_our_nat_is_given_up() -> None:
    world = World()
    world.run(nodes=0)
    assert world.punched is None or world.now < 10
    assert world.failed or world.punched


def test_the_first_relay_that_loses_a_round_is_left_for_the_next() -> None:
    world = World(fast=False)
    world.lost_asks = lambda _ask, count: count in (1, 3)
    world.run()
    assert world.punched is not None
    assert world.asked[0].relay != world.asked[1].relay
    assert world.asked[2].relay != world.asked[3].relay


def test_a_busy_node_does_not_punch_at_random() -> None:
    punches = RandomPunches()
    assert punches.take(0.0)
    world = World(server=RANDOM_NAT, random_punches=punches)
    world.run()
    assert world.failed[CLIENT_HOST] == "holepunch-aborted"


def test_a_busy_node_with_a_relay_waits_until_it_may() -> None:
    punches = RandomPunches()
    assert punches.take(0.0)
    world = World(server=RANDOM_NAT, random_punches=punches, has_relay=True)
    world.later(1.0, lambda: punches.release(1.0))
    world.run(seconds=120.0)
    assert world.punched is not None
    assert world.now > 21.0


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_slow_way_does_not_make_a_strict_server_give_up(side: str) -> None:
    world = World(strict=True, **{side: RANDOM_NAT})  # type: ignore[arg-type]  # one of two keywords
    world.repeat_after = 3 * LATENCY  # less than the round trip
    world.run()
    assert world.punched is not None
    assert not world.failed


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("lost", [{2}, {2, 3}, {2, 3, 4, 5}])
def test_a_lost_round_is_made_up_for_without_the_strict_server_giving_up(side: str, lost: set[int]) -> None:
    world = World(strict=True, **{side: RANDOM_NAT})  # type: ignore[arg-type]  # one of two keywords
    world.lost_asks = lambda _ask, count: count in lost
    world.run()
    assert world.punched is not None
    assert not world.failed
    asked = [ask.payload.punching for ask in world.asked]
    assert asked == [False, True, *[False] * len(lost), True]


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("lost", [{2}, {2, 3}, {2, 3, 4, 5}])
def test_a_lost_answer_is_asked_for_without_the_strict_server_giving_up(side: str, lost: set[int]) -> None:
    world = World(strict=True, **{side: RANDOM_NAT})  # type: ignore[arg-type]  # one of two keywords
    world.lost_answers = lambda _payload, count: count in lost
    world.run()
    assert world.punched is not None
    assert not world.failed
    asked = [ask.payload.punching for ask in world.asked]
    assert asked == [False, True, *[False] * len(lost)]


def test_a_server_that_no_longer_answers_is_given_up_in_seconds() -> None:
    world = World(server=RANDOM_NAT)
    world.lost_answers = lambda _payload, count: count > 1
    world.run()
    assert world.failed[CLIENT_HOST] == "holepunch-aborted"
    assert len(world.asked) == 1 + MAX_SECOND_ROUNDS


def test_random_punches_come_one_at_a_time_and_twenty_seconds_apart() -> None:
    punches = RandomPunches()
    assert punches.take(0.0)
    assert not punches.take(1.0)
    punches.release(5.0)
    assert not punches.take(24.9)
    assert punches.take(25.0)


# ---------------------------------------------------------------- hostile remotes


def make_server(**options: bool) -> ServerPunch:
    settings = PunchSettings(
        remote_firewall=0,
        firewalled=True,
        token_secret=bytes(32),
        random=Random(1),
        random_punches=RandomPunches(),
        accepts=lambda host: host.startswith("5."),
        **options,
    )
    server = ServerPunch(settings, 0.0)
    for number in range(4):
        server.sampled(Endpoint("5.0.0.2", 7000), Endpoint("5.0.2.1", 1 + number), 0.0)
    return server


def punching(number: int, addresses: list[Endpoint]) -> HolepunchPayload:
    payload = HolepunchPayload(firewall=Firewall.CONSISTENT, round=number, punching=True)
    return forged(payload, addresses)


def all_probes(server: ServerPunch) -> list[Endpoint]:
    sent: list[Endpoint] = []
    while not server.over:
        now = server.deadline
        for action in server.handle_timer(now):
            if isinstance(action, SendProbes):
                sent += [probe.to for probe in action.probes]
    return sent


def test_a_long_list_of_addresses_gets_few_probes() -> None:
    server = make_server()
    victims = [Endpoint(f"5.1.{number}.1", 53) for number in range(100)]
    server.receive(1, punching(1, victims), HERE, from_own_relay=True, now=0.0)
    sent = all_probes(server)
    assert len(set(sent)) == MAX_ADDRESSES
    assert len(sent) == MAX_ADDRESSES * (ROUNDS // 4)


def test_hosts_that_are_not_accepted_get_no_probe() -> None:
    server = make_server()
    server.receive(1, punching(1, [Endpoint("127.0.0.1", 53), HERE]), HERE, from_own_relay=True, now=0.0)
    assert set(all_probes(server)) == {HERE}


def test_a_lower_round_changes_nothing() -> None:
    server = make_server()
    server.receive(1, forged(HolepunchPayload(round=5, firewall=2), [HERE]), HERE, from_own_relay=True, now=0)
    before = server.targets
    late = forged(HolepunchPayload(round=4, firewall=3), [Endpoint("5.9.9.9", 1)])
    server.receive(2, late, HERE, from_own_relay=True, now=0.0)
    assert (server.targets, server.remote_firewall) == (before, Firewall.CONSISTENT)


def test_messages_without_end_are_not_answered() -> None:
    server = make_server()
    answers = [
        server.receive(number, HolepunchPayload(round=1), HERE, from_own_relay=True, now=0.0)
        for number in range(2 * MAX_MESSAGES)
    ]
    assert sum(bool(answer) for answer in answers) == MAX_MESSAGES


def test_a_client_that_never_punches_is_forgotten_after_ten_seconds() -> None:
    server = make_server()
    server.receive(1, HolepunchPayload(round=0), HERE, from_own_relay=True, now=0.0)
    assert server.deadline == 10.0
    assert server.handle_timer(10.0)
    assert server.over


payloads = st.builds(
    HolepunchPayload,
    error=st.integers(0, 4),
    firewall=st.integers(0, 9),
    round=st.integers(0, 300),
    punching=st.booleans(),
    addresses=st.none() | st.lists(st.builds(Endpoint, st.just("5.0.0.9"), st.integers(0, 65535))).map(tuple),
    remote_address=st.none() | st.just(Endpoint("5.0.0.2", 7000)),
    token=st.none() | st.binary(min_size=32, max_size=32),
    remote_token=st.none() | st.binary(min_size=32, max_size=32),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(payloads, max_size=8), st.integers(0, 100))
def test_any_messages_of_a_client_end_in_bounded_probes(messages: list[HolepunchPayload], seed: int) -> None:
    server = make_server()
    count = 0
    for number, payload in enumerate(messages):
        from_own = bool(seed >> number & 1)
        for action in server.receive(number, payload, HERE, from_own_relay=from_own, now=0.0):
            count += len(action.probes) if isinstance(action, SendProbes) else 0
    assert count + len(all_probes(server)) <= GUESSES + 100


@settings(max_examples=60, deadline=None)
@given(payloads, st.booleans(), st.booleans())
def test_any_answers_of_a_server_end_the_attempt(
    answer: HolepunchPayload, client_random: bool, server_random: bool
) -> None:
    world = World(
        client=RANDOM_NAT if client_random else None, server=RANDOM_NAT if server_random else None, fast=False
    )
    honest = world.client.receive

    def lie(
        payload: HolepunchPayload, peer: Endpoint | None, to: Endpoint, source: Endpoint, now: float
    ) -> object:
        return honest(answer, peer, to, source, now)

    world.client.receive = lie  # type: ignore[assignment,method-assign]  # the world's server is replaced
    world.run(seconds=200.0)
    assert world.client.over
    assert world.probes[CLIENT_HOST] <= GUESSES + 300


# ---------------------------------------------------------------- schedules


def test_ten_rounds_of_steady_probes_a_second_apart_unverified_every_fourth() -> None:
    stranger = Endpoint("5.0.0.7", 1)
    schedule = SteadyProbes([Target(HERE, True), Target(stranger, False)], 0.0)
    rounds = []
    while schedule.deadline < float("inf"):
        rounds.append((schedule.deadline, [probe.to for probe in schedule.take(schedule.deadline)]))
    assert [len(probes) for _, probes in rounds] == [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 0]
    assert rounds[9][0] == pytest.approx(9.0)


def test_guesses_go_to_ports_from_1000_to_65535_of_one_host() -> None:
    schedule = GuessedPorts("5.0.0.7", 0.0, Random(1))
    sent = []
    while schedule.deadline < float("inf"):
        at = schedule.deadline
        sent += schedule.take(at)
    assert len(sent) == GUESSES
    assert at == pytest.approx(35.0)
    assert {probe.to.host for probe in sent} == {"5.0.0.7"}
    assert min(probe.to.port for probe in sent) >= 1000


def test_guesses_that_are_a_little_late_do_not_make_the_next_ones_late() -> None:
    schedule = GuessedPorts("5.0.0.7", 0.0, Random(1))
    now = 0.0
    for _ in range(100):
        now = max(now, schedule.deadline) + 0.25 * GUESS_SECONDS
        assert len(schedule.take(now)) == 1
    assert now == pytest.approx(99.25 * GUESS_SECONDS)
    assert len(schedule.take(now + 60.0)) == 1  # and what a long pause left out is not sent all at once
    assert schedule.take(now + 60.0) != []
    assert schedule.take(now + 60.0 + 0.5 * GUESS_SECONDS) == []


def test_many_sockets_open_the_nat_at_once_and_are_kept_open() -> None:
    schedule = SpreadProbes(HERE, 3, 0.0)
    assert [(probe.socket, probe.low_ttl) for probe in schedule.take(0.0)] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    later = [schedule.take(schedule.deadline)[0] for _ in range(4)]
    assert [(probe.socket, probe.low_ttl) for probe in later] == [
        (0, True),
        (1, True),
        (2, True),
        (0, False),
    ]
