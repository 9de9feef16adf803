"""When topics are looked up and announced: new ones at once, many of them evenly, lonely ones more often."""

from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import DiscoveryKey
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.swarm.topics import LONELY_SECONDS, MAX_ERRANDS, REFRESH_SECONDS, Errand, Kind, Topics

NODES = (Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))


def topic(number: int) -> DiscoveryKey:
    return DiscoveryKey(number.to_bytes(32, "big"))


def make(*, announcing: bool = True) -> Topics:
    topics = Topics(Random(1))
    if announcing:
        topics.may_announce()
    return topics


def run(topics: Topics, until: float, *, now: float = 0.0, takes: float = 0.5) -> list[tuple[float, Errand]]:
    """All errands until then, each done after ``takes`` seconds."""
    history: list[tuple[float, Errand]] = []
    running: list[tuple[float, Errand]] = []
    while now <= until:
        for errand in topics.due(now):
            history.append((now, errand))
            running.append((now + takes, errand))
        wake = min([at for at, _ in running] + [topics.deadline])
        if wake > until:
            break
        now = max(now, wake)
        for at, errand in list(running):
            if at <= now:
                running.remove((at, errand))
                topics.done(errand, now, NODES)
    for _, errand in running:
        topics.done(errand, until, NODES)
    return history


def test_a_reader_looks_up_and_a_writer_announces() -> None:
    topics = make()
    topics.join(topic(1), 0.0, server=False, client=True)
    topics.join(topic(2), 0.0, server=True, client=False)
    errands = {errand.topic: errand for errand in topics.due(0.0)}
    assert errands[topic(1)].kind is Kind.LOOKUP
    assert errands[topic(2)] == Errand(Kind.ANNOUNCE, topic(2), (), replace=True)


def test_nothing_is_announced_before_we_can_be_reached() -> None:
    topics = make(announcing=False)
    topics.join(topic(1), 0.0)
    topics.join(topic(2), 0.0, client=False)
    assert [errand.kind for _, errand in run(topics, 1.0)] == [Kind.LOOKUP]
    topics.may_announce()
    assert {errand.topic for errand in topics.due(1.0)} == {topic(1), topic(2)}


def test_an_announcement_is_renewed_before_nodes_forget_it() -> None:
    """The first time it may be soon, later after ten minutes and up to two more; from the nodes known."""
    topics = make()
    topics.join(topic(1), 0.0, client=False)
    history = run(topics, 7200.0)
    times = [at for at, _ in history]
    assert 9 <= len(history) <= 13
    assert times[1] < 780
    assert all(600 <= later - at <= 721 for at, later in pairwise(times[1:]))
    assert [errand.replace for _, errand in history] == [True] + [False] * (len(history) - 1)
    assert all(errand.start == NODES for _, errand in history[1:])


def test_a_thousand_topics_spread_evenly() -> None:
    topics = make()
    for number in range(1000):
        topics.join(topic(number), 0.0, client=False)
    history = run(topics, 3 * REFRESH_SECONDS)
    assert (
        len({errand.topic for at, errand in history if at < 130}) == 1000
    )  # four at once, half a second each
    minutes = Counter(int(at // 60) for at, _ in history if at >= 180)
    assert max(minutes.values()) < 2 * 1000 / 11
    assert min(minutes[minute] for minute in range(4, 29)) > 0.4 * 1000 / 11
    last = {errand.topic: at for at, errand in history}
    assert min(last.values()) > 3 * REFRESH_SECONDS - 790


def test_a_topic_without_a_peer_is_looked_up_ever_less() -> None:
    topics = make()
    topics.join(topic(1), 0.0)
    history = run(topics, 500.0)
    lookups = [at for at, errand in history if errand.kind is Kind.LOOKUP]
    assert history[0][1].kind is Kind.ANNOUNCE
    assert lookups[0] < 2 * LONELY_SECONDS
    pauses = [later - at for at, later in pairwise(lookups)]
    assert 7 <= len(lookups) <= 10
    assert pauses[-1] > 60


def test_many_lonely_topics_are_looked_up_less_often() -> None:
    """Two thousand with nobody there: about as many lookups in the first hour as refreshes alone make."""
    topics = make()
    for number in range(2000):
        topics.join(topic(number), 0.0, server=False)
    first = len([at for at, _ in run(topics, 3600.0) if at < 3600])
    assert first < 2000 * (6 + 6)


def test_a_topic_that_has_peers_is_not() -> None:
    topics = make()
    topics.join(topic(1), 0.0)
    run(topics, 1.0)
    topics.connected({topic(1)}, 1.0)
    assert len(run(topics, 60.0, now=1.0)) <= 1  # what was planned already
    topics.connected(set(), 60.0)
    assert [errand.kind for _, errand in run(topics, 62.0, now=60.0)] == [Kind.LOOKUP]


def test_a_new_network_makes_all_known_again() -> None:
    topics = make()
    for number in range(10):
        topics.join(topic(number), 0.0)
    run(topics, 3.0)
    topics.network_changed(3.0)
    history = run(topics, 6.0, now=3.0)
    assert {errand.topic for _, errand in history if errand.replace} == {
        topic(number) for number in range(10)
    }


def test_a_change_in_the_middle_of_an_errand_is_not_missed() -> None:
    topics = make()
    topics.join(topic(1), 0.0, client=False)
    (errand,) = topics.due(0.0)
    topics.network_changed(0.1)
    topics.done(errand, 0.5, NODES)
    assert [errand.replace for errand in topics.due(0.5)] == [True]


def test_leaving_revokes_what_was_announced() -> None:
    topics = make()
    topics.join(topic(1), 0.0)
    topics.join(topic(2), 0.0, server=False)
    run(topics, 1.0)
    topics.leave(topic(1))
    topics.leave(topic(2))
    topics.leave(topic(3))
    assert topics.deadline < 1.0
    (errand,) = topics.due(1.0)
    assert errand == Errand(Kind.UNANNOUNCE, topic(1), NODES)
    topics.done(errand, 2.0, NODES)
    assert run(topics, 2000.0, now=2.0) == []


def test_what_is_left_while_it_is_announced_is_revoked_afterwards() -> None:
    topics = make()
    topics.join(topic(1), 0.0)
    (errand,) = topics.due(0.0)
    topics.leave(topic(1))
    assert topics.due(0.1) == []
    topics.done(errand, 0.5, NODES)
    assert [errand.kind for errand in topics.due(0.5)] == [Kind.UNANNOUNCE]


def test_failures_are_tried_again_with_growing_pauses() -> None:
    topics, now, times = make(), 0.0, []
    topics.join(topic(1), 0.0)
    for _ in range(7):
        (errand,) = topics.due(now)
        assert errand.kind is Kind.ANNOUNCE
        assert errand.replace
        times.append(now)
        topics.failed(errand, now)
        now = topics.deadline
    pauses = [later - at for at, later in pairwise(times)]
    assert pauses[0] < 7
    assert 80 < pauses[-1] <= 150


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["join", "join", "leave", "done", "failed", "network", "connected", "wait", "may"]
            ),
            st.integers(0, 9),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, int]]) -> None:
    """Few errands at once, one for each topic, and whatever is due is done."""
    topics, now, may = make(announcing=False), 0.0, False
    running: list[Errand] = []
    for step, number in steps:
        match step:
            case "join":
                topics.join(topic(number), now, server=number % 3 != 0, client=number % 3 != 1)
            case "leave":
                topics.leave(topic(number))
            case "done" | "failed" if running:
                errand = running.pop(number % len(running))
                if step == "done":
                    topics.done(errand, now, NODES)
                else:
                    topics.failed(errand, now)
            case "network":
                topics.network_changed(now)
            case "connected":
                topics.connected({topic(number), topic(number + 1)}, now)
            case "wait":
                now += 40.0 * number
            case _:
                may = True
                topics.may_announce()
        running += topics.due(now)
        assert len(running) <= MAX_ERRANDS
        assert may or all(errand.kind is Kind.LOOKUP for errand in running)
        assert topics.deadline > now
    for _ in range(200):
        while running:
            topics.done(running.pop(), now, NODES)
            running += topics.due(now)
        now += 1.0
        running += topics.due(now)
    while running:
        topics.done(running.pop(), now, NODES)
    assert topics.deadline > now
    assert not may or all(one.announced for one in topics if one.server)
    assert all(one.lookups for one in topics if one.client)
