"""Whom the swarm dials: fair to all topics, patient with nobody who fails, and never too many."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import DiscoveryKey, PublicKey
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.swarm.peers import (
    BAN_SECONDS,
    MAX_ACCEPTED,
    MAX_BANNED,
    MAX_DIALS,
    MAX_PEERS,
    MAX_SLOW_DIALS,
    MAX_TOPIC_PEERS,
    REST_SECONDS,
    SLOW_SECONDS,
    TURN_SECONDS,
    Peers,
)

OWN = PublicKey(bytes(32))


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


def topic(number: int) -> DiscoveryKey:
    return DiscoveryKey(b"topic" + number.to_bytes(27, "big"))


def make(**options: int) -> Peers:
    return Peers(OWN, Random(1), **options)


def linked(*pairs: tuple[int, int]) -> dict[PublicKey, set[DiscoveryKey]]:
    return {key(peer): {topic(number)} for peer, number in pairs}


def test_three_at_a_time() -> None:
    peers = make()
    for number in range(1, 10):
        peers.found(topic(0), key(number), (), 0.0)
    first = peers.due(0.0)
    assert len(first) == MAX_DIALS
    assert peers.due(0.0) == []
    peers.ended(first[0].key, 1.0)
    (another,) = peers.due(1.0)
    assert another.key not in {dial.key for dial in first}


def test_whoever_was_never_tried_comes_before_whoever_did_not_answer() -> None:
    peers = make()
    for number in range(1, 5):
        peers.found(topic(0), key(number), (Endpoint("10.0.0.1", 1),), 0.0)
    first = peers.due(0.0)
    assert all(dial.brief for dial in first)
    for dial in first:
        peers.ended(dial.key, 1.0)
    (second,) = peers.due(1.0)
    assert second.brief
    peers.ended(second.key, 2.0)
    peers.found(topic(0), key(9), (), 8.0)
    dials = peers.due(8.0)  # when all have paused
    assert dials[0].key == key(9)
    assert len(dials) == MAX_DIALS
    assert not any(dial.brief for dial in dials[1:])


def test_whoever_was_connected_once_is_never_dialled_briefly() -> None:
    peers = make()
    peers.found(topic(0), key(1), (Endpoint("10.0.0.1", 1),), 0.0)
    peers.links(linked((1, 0)), 0.0)
    peers.links({}, 60.0)
    (dial,) = peers.due(70.0)
    assert not dial.brief


def test_the_dead_hold_nobody_up_for_long() -> None:
    """Whoever was killed is still announced: dials that tell nothing let others have their turn."""
    peers = make()
    for number in range(1, 60):
        peers.found(topic(0), key(number), (), 0.0)
    dialled = [len(peers.due(now * SLOW_SECONDS)) for now in range(10)]
    assert dialled == [3, 3, 3, 3, 3, 1, 0, 0, 0, 0]
    assert sum(dialled) == MAX_SLOW_DIALS
    peers = make()
    peers.found(topic(0), key(1), (), 0.0)
    assert len(peers.due(0.0)) == 1
    assert peers.deadline == SLOW_SECONDS
    assert peers.due(SLOW_SECONDS) == []
    peers.ended(key(1), 8.0)
    assert peers.due(8.0) == []
    assert [dial.key for dial in peers.due(40.0)] == [key(1)]


def test_a_topic_without_a_connection_comes_first() -> None:
    peers = make()
    peers.links(linked((1, 1), (2, 1)), 0.0)
    for number in range(10, 60):
        peers.found(topic(1), key(number), (), 0.0)
    peers.found(topic(2), key(99), (), 0.0)
    assert peers.due(0.0)[0].key == key(99)


def test_one_peer_for_many_topics_serves_them_all() -> None:
    """A seedbox that has all our feeds is dialled once, and then the topics it has are served."""
    peers = make()
    for number in range(1000):
        peers.found(topic(number), key(1), (), 0.0)
    peers.found(topic(2000), key(2), (), 0.0)
    assert {dial.key for dial in peers.due(0.0)} == {key(1), key(2)}
    assert len(peers) == 2
    peers.links({key(1): {topic(number) for number in range(1000)}}, 1.0)
    assert all(peers.served(1.0)[topic(number)] == 1 for number in range(1000))


def test_no_topic_and_no_sum_of_them_has_too_many() -> None:
    peers = make(max_connections=5, max_per_topic=2)
    for number in range(1, 10):
        peers.found(topic(1), key(number), (), 0.0)
    assert len(peers.due(0.0)) == 2
    for number in range(10, 30):
        peers.found(topic(number), key(number), (), 0.0)
    peers.links(linked((1, 1), (2, 1), (10, 10), (11, 11), (50, 5), (51, 5)), 1.0)
    for one in range(1, 10):
        peers.ended(key(one), 1.0)
    assert len(peers.due(1.0)) == 1


def test_those_who_come_by_themselves_leave_room_for_dials() -> None:
    """A popular feed's node finds peers for another feed however many listen to the first."""
    peers = make()
    peers.links(linked(*((number, 1) for number in range(100, 100 + MAX_ACCEPTED))), 0.0)
    peers.found(topic(2), key(1), (), 0.0)
    assert [dial.key for dial in peers.due(0.0)] == [key(1)]


def test_who_has_nothing_of_what_it_announced_is_let_be() -> None:
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    peers.due(0.0)
    peers.links({key(1): set()}, 1.0)
    peers.let_be(key(1), 61.0)
    peers.links({}, 61.0)
    peers.ended(key(1), 61.0)
    peers.found(topic(1), key(1), (), 62.0)
    assert peers.due(600.0) == []
    assert peers.due(700.0) == []
    peers.found(topic(1), key(1), (), 701.0)
    assert peers.due(701.0)


def test_a_peer_that_fails_is_let_be_after_a_while() -> None:
    """A peer that was never there: three pauses that grow, then it rests and is forgotten."""
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    now, pauses = 0.0, []
    for _ in range(4):
        assert [dial.key for dial in peers.due(now)] == [key(1)]
        peers.ended(key(1), now)
        pauses.append(peers.deadline - now)
        assert peers.due(peers.deadline - 0.01) == []
        now = peers.deadline
    assert 5 <= pauses[0] <= 6.5
    assert all(15 <= pause <= 17.5 for pause in pauses[1:3])
    assert pauses[3] == pytest.approx(REST_SECONDS)
    assert peers.due(now) == []
    assert key(1) not in peers
    peers.found(topic(1), key(1), (), now)
    assert peers.due(now)


def test_a_peer_that_was_there_is_dialled_soon_again() -> None:
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    peers.due(0.0)
    peers.links(linked((1, 1)), 0.1)
    peers.links({}, 100.0)
    peers.ended(key(1), 100.0)
    assert 101 <= peers.deadline <= 102
    assert [dial.key for dial in peers.due(102.0)] == [key(1)]


def test_a_peer_that_drops_us_each_time_is_let_be() -> None:
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    now, times = 0.0, []
    for _ in range(4):
        assert peers.due(now)
        times.append(now)
        peers.links(linked((1, 1)), now)
        peers.links({}, now + 0.1)
        now = peers.deadline
    assert peers.due(now) == []
    assert 1 <= times[1] <= 2.5
    assert 20 <= times[3] <= 30


def test_a_named_peer_is_never_given_up() -> None:
    peers = make()
    peers.name(key(1), [Endpoint("10.0.0.1", 1)])
    now = 0.0
    for _ in range(10):
        (dial,) = peers.due(now)
        assert dial.relays == (Endpoint("10.0.0.1", 1),)
        peers.ended(dial.key, now)
        now = peers.deadline
    assert now < 20 * 720


def test_own_banned_and_surplus_peers_are_refused() -> None:
    peers = make()
    assert not peers.admits(OWN, 0.0)
    peers.found(topic(1), OWN, (), 0.0)
    peers.found(topic(1), key(1), (), 0.0)
    peers.ban(key(1), 0.0)
    peers.found(topic(1), key(1), (), 0.0)
    assert peers.due(0.0) == []
    assert not peers.admits(key(1), 0.0)
    assert peers.admits(key(1), BAN_SECONDS + 1)
    peers.links(linked(*((number, 1) for number in range(10, 10 + MAX_ACCEPTED))), 0.0)
    assert not peers.admits(key(5), 0.0)
    assert peers.admits(key(10), 0.0)  # it comes again


def test_what_strangers_make_us_remember_is_bounded() -> None:
    peers = make()
    for number in range(1, 2 * MAX_PEERS):
        peers.found(topic(number // 300), key(number), (), 0.0)
        peers.ban(key(10**6 + number), 0.0)
    assert len(peers) <= MAX_PEERS
    assert len([number for number in range(300) if key(number) in peers]) <= MAX_TOPIC_PEERS
    assert not peers.is_banned(key(10**6 + 1), 0.0)
    assert peers.is_banned(key(10**6 + 2 * MAX_PEERS - 1), 0.0)
    assert MAX_BANNED < 2 * MAX_PEERS


def test_leaving_a_topic_forgets_those_who_have_nothing_else() -> None:
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    peers.found(topic(1), key(2), (), 0.0)
    peers.found(topic(2), key(2), (), 0.0)
    peers.leave(topic(1))
    assert [dial.key for dial in peers.due(0.0)] == [key(2)]


def test_full_links_are_shared_by_turns() -> None:
    """First those go whose topics have others, then quiet ones that have had their time."""
    peers = make(max_connections=3)
    for number in (1, 2, 3):
        peers.found(topic(number), key(number), (), 0.0)
    peers.due(0.0)
    peers.links(linked((1, 1), (2, 2), (3, 3)), 0.0)
    assert peers.spare(1000.0, {key(1)}) is None  # nobody waits
    peers.found(topic(4), key(4), (), 0.0)
    assert peers.spare(TURN_SECONDS - 1, {key(1)}) is None
    assert peers.spare(TURN_SECONDS, set()) is None  # all are busy
    assert peers.spare(TURN_SECONDS, {key(2)}) == key(2)
    peers.links(linked((1, 1), (2, 1), (3, 3)), 400.0)
    assert peers.spare(400.0, set()) == key(1)
    peers.give_up(key(1), 400.0)
    assert [dial.key for dial in peers.due(400.0)] == [key(4)]


def test_when_nobody_can_be_let_in_a_crowd_gives_way() -> None:
    """A popular feed must not keep the listeners of all others out."""
    peers = make()
    popular = [(number, 1) for number in range(1, MAX_ACCEPTED)]
    peers.links(linked(*popular), 0.0)
    everybody = {key(number) for number in range(2 * MAX_ACCEPTED)}
    assert peers.surplus(0.0, everybody) is None
    peers.links(linked((999, 2), *popular), 0.0)
    assert peers.surplus(0.0, {key(999)}) is None  # it is alone
    assert peers.surplus(0.0, {key(999), key(7), key(8)}) == key(7)
    peers.give_up(key(7), 0.0)
    assert peers.admits(key(1000), 0.0)


def test_a_new_network_is_a_new_chance() -> None:
    peers = make()
    peers.found(topic(1), key(1), (), 0.0)
    peers.due(0.0)
    peers.ended(key(1), 0.0)
    assert peers.due(1.0) == []
    peers.network_changed(1.0)
    assert peers.due(1.0)


STEPS = st.tuples(
    st.sampled_from(["found", "up", "down", "ended", "ban", "leave", "wait", "network", "spare"]),
    st.integers(1, 12),
    st.integers(1, 4),
)


@given(st.lists(STEPS, max_size=80))
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, int, int]]) -> None:
    peers, now = make(max_connections=6, max_per_topic=4), 0.0
    links: dict[PublicKey, set[DiscoveryKey]] = {}
    dialling: set[PublicKey] = set()
    joined = {topic(number) for number in range(1, 5)}
    for step, who, about in steps:
        match step:
            case "found":
                joined.add(topic(about))
                peers.found(topic(about), key(who), (), now)
            case "up":
                links[key(who)] = {topic(about)}
                peers.links(links, now)
            case "down":
                links.pop(key(who), None)
                peers.links(links, now)
                dialling.discard(key(who))
                peers.ended(key(who), now)
            case "ended":
                dialling.discard(key(who))
                peers.ended(key(who), now)
            case "ban":
                peers.ban(key(who), now)
            case "leave":
                joined.discard(topic(about))
                peers.leave(topic(about))
            case "wait":
                now += who * about
            case "network":
                peers.network_changed(now)
            case _:
                spare = peers.spare(now, links.keys())
                if spare is not None:
                    assert spare in links
                    del links[spare]
                    peers.give_up(spare, now)
        served = Counter(one for topics in links.values() for one in topics)
        for dial in peers.due(now):
            assert dial.key not in links
            assert not peers.is_banned(dial.key, now)
            assert sum(one in peers for one in links) < 6
            dialling.add(dial.key)
        assert peers.served(now).keys() >= served.keys()
        assert peers.deadline > now or not peers.due(now)
        assert all(peers._by_topic[one] >= 0 for one in joined)
