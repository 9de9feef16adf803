"""What is announced and heard, whom it makes us dial, and that strangers can't make much of it."""

import socket
import string
from ipaddress import ip_interface
from itertools import pairwise
from random import Random
from typing import Final

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from p2prss.codec import z32
from p2prss.crypto.keys import DiscoveryKey, KeyPair, PublicKey
from p2prss.errors import DecodeError, NetworkError, RemoteProtocolError
from p2prss.log.store import Store
from p2prss.net import tcp
from p2prss.net.address import Address
from p2prss.net.exchange import Exchange
from p2prss.net.lan.announcement import (
    MAX_SERVICES,
    MAX_STRINGS,
    MAX_TAGS,
    MAX_TEXT_BYTES,
    SERVICE_TYPE,
    TAGS_PER_STRING,
    Announcement,
    announcements,
    decode_name,
    feed_tag,
)
from p2prss.net.lan.interfaces import MAX_ADDRESSES, Interface, all_on_link, local_interfaces, on_link
from p2prss.net.lan.lan import Lan, connect_to_any, open_lan_listener
from p2prss.net.lan.neighbours import GRACE, MAX_FAILURES, MAX_NEIGHBOURS, STEADY_AFTER, Neighbours

KEYS: Final = sorted(KeyPair.from_seed(bytes([number]) * 32).public_key for number in range(4))
LOW, OWN, HIGH, OTHER = KEYS
FEED, OTHER_FEED = DiscoveryKey(b"f" * 32), DiscoveryKey(b"o" * 32)
HERE, THERE = (Address("10.0.0.7", 5000),), (Address("10.0.0.8", 5000),)


# ---- what is announced


def read_back(announcement: Announcement) -> Announcement:
    """Through zeroconf's own writing and reading of the TXT record."""
    info = ServiceInfo(
        SERVICE_TYPE, announcement.name, port=announcement.port, properties=announcement.text()
    )
    assert len(info.text) <= MAX_TEXT_BYTES
    return Announcement.decode(
        info.name, ServiceInfo(SERVICE_TYPE, info.name, properties=info.text).properties, info.port
    )


@pytest.mark.parametrize("feeds", [1, 2, MAX_TAGS, MAX_TAGS + 1, 1000])
def test_every_feed_is_found_by_who_knows_it_and_by_nobody_else(feeds: int) -> None:
    keys = [DiscoveryKey(Random(number).randbytes(32)) for number in range(feeds)]
    heard = [read_back(one) for one in announcements(OWN, keys, 5000)]
    assert len({one.name for one in heard}) == len(heard) == -(-feeds // MAX_TAGS)
    assert all(any(one.tells_of([key]) for one in heard) for key in keys)
    assert not any(one.tells_of([FEED, OTHER_FEED]) for one in heard)
    assert {one.key for one in heard} == {OWN}


def test_more_feeds_than_fit_are_cut_off() -> None:
    keys = [DiscoveryKey(number.to_bytes(32, "big")) for number in range(MAX_SERVICES * MAX_TAGS + 1)]
    made = announcements(OWN, keys, 5000)
    assert len(made) == MAX_SERVICES
    assert [read_back(one) for one in made] == made


def test_without_feeds_nothing_is_announced() -> None:
    assert announcements(OWN, [], 5000) == []


def test_a_tag_is_of_one_node_and_shows_no_key() -> None:
    assert feed_tag(OWN, FEED) != feed_tag(HIGH, FEED)
    (made,) = announcements(OWN, [FEED], 5000)
    said = made.name.encode() + b"".join(made.text().values())
    assert bytes(FEED) not in said
    assert FEED[:8] not in said
    assert FEED.hex().encode() not in said


def test_the_numbers_of_an_announcement_fit_together() -> None:
    assert MAX_STRINGS * TAGS_PER_STRING == MAX_TAGS


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ({}, 5000),
        ({b"v": b"2", b"t0": bytes(8)}, 5000),
        ({b"v": b"1"}, 5000),
        ({b"v": b"1", b"t0": None}, 5000),
        ({b"v": b"1", b"t0": bytes(7)}, 5000),
        ({b"v": b"1", **{b"t%d" % number: bytes(256) for number in range(4)}}, 5000),
        ({b"v": b"1", b"t0": bytes(8)}, None),
        ({b"v": b"1", b"t0": bytes(8)}, 0),
        ({b"v": b"1", b"t0": bytes(8)}, 80),
        ({b"v": b"1", b"t0": bytes(8)}, 65536),
    ],
)
def test_announcements_that_break_the_rules(text: dict[bytes, bytes | None], port: int | None) -> None:
    with pytest.raises(DecodeError):
        Announcement.decode(f"{z32.encode(OWN)}-0.{SERVICE_TYPE}", text, port)


def test_members_that_are_not_known_are_ignored() -> None:
    (made,) = announcements(OWN, [FEED], 5000)
    assert Announcement.decode(made.name, {**made.text(), b"x": b"y", b"t9": b"z"}, 5000) == made


@given(
    st.text()
    | st.text(string.ascii_lowercase + string.digits, min_size=52, max_size=52).map(
        lambda key: f"{key}-0.{SERVICE_TYPE}"
    ),
    st.dictionaries(st.sampled_from([b"v", b"t0", b"t1"]) | st.binary(), st.none() | st.binary()),
    st.none() | st.integers(),
)
def test_any_announcement_is_read_or_refused(
    name: str, text: dict[bytes, bytes | None], port: int | None
) -> None:
    for call in (lambda: decode_name(name), lambda: Announcement.decode(name, text, port)):
        try:
            call()
        except DecodeError:
            continue


# ---- where announcements may lead us

NETWORKS: Final = (
    Interface(2, ip_interface("10.0.0.5/24")),
    Interface(2, ip_interface("fe80::5/64")),
    Interface(3, ip_interface("fd12::5/64")),
    Interface(3, ip_interface("2600:1::5/64")),  # routed in the internet
    Interface(4, ip_interface("198.51.100.7/32")),
    Interface(5, ip_interface("8.8.8.5/24")),  # likewise
    Interface(6, ip_interface("172.16.0.1/0")),  # says that everything is on this network
)


@pytest.mark.parametrize(
    ("text", "dialled"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("fd12::9", "fd12::9"),
        ("fe80::9", "fe80::9%2"),
        ("fe80::9%2", "fe80::9%2"),
        ("fe80::9%3", None),
        ("10.0.1.7", None),
        ("10.0.0.0", None),
        ("10.0.0.255", None),
        ("192.168.1.1", None),
        ("8.8.8.8", None),
        ("2600:1::9", None),
        ("2001:4860:4860::8888", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("0.0.0.0", None),
        ("::", None),
        ("224.0.0.251", None),
        ("ff02::fb", None),
        ("255.255.255.255", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_only_hosts_of_local_networks_are_dialled(text: str, dialled: str | None) -> None:
    assert on_link(text, NETWORKS) == dialled


@given(st.text() | st.ip_addresses().map(str))
def test_any_address_is_local_or_refused(text: str) -> None:
    on_link(text, NETWORKS)


def test_few_of_many_addresses_are_kept() -> None:
    many = [f"10.0.0.{number}" for number in range(1, 200)]
    assert len(all_on_link(["8.8.8.8", "fd12::9", *many], NETWORKS)) == MAX_ADDRESSES
    assert all_on_link(["8.8.8.8"] * 1000 + many, NETWORKS) == ()
    assert all_on_link(["fd12::9", "10.0.0.7", "10.0.0.7"], NETWORKS) == ("10.0.0.7", "fd12::9")


def test_our_own_interfaces_are_no_loopback() -> None:
    assert not any(one.ip.is_loopback for one in local_interfaces())


# ---- whom to dial


def keys_due(neighbours: Neighbours, now: float) -> list[PublicKey]:
    return [one.key for one in neighbours.due(now)]


@pytest.fixture
def neighbours() -> Neighbours:
    return Neighbours(OWN, Random(1))


def test_the_smaller_key_dials_at_once_and_the_greater_one_a_little_later(neighbours: Neighbours) -> None:
    neighbours.heard(HIGH, 0, HERE, 100.0)
    neighbours.heard(LOW, 0, HERE, 100.0)
    assert keys_due(neighbours, 100.0) == [HIGH]
    assert neighbours.deadline == 100.0 + GRACE
    assert keys_due(neighbours, 100.0 + GRACE) == [LOW]
    assert keys_due(neighbours, 1000.0) == []  # both are being dialled


def test_who_has_a_link_already_is_not_dialled(neighbours: Neighbours) -> None:
    neighbours.heard(LOW, 0, HERE, 100.0)
    neighbours.links([LOW], 100.5)
    assert keys_due(neighbours, 200.0) == []
    neighbours.links([], 200.0)
    assert keys_due(neighbours, 200.0) == []
    assert keys_due(neighbours, 200.0 + GRACE + 1.0) == [LOW]


def test_our_own_announcement_is_nobody(neighbours: Neighbours) -> None:
    neighbours.heard(OWN, 0, HERE, 100.0)
    neighbours.heard(HIGH, 0, (), 100.0)  # and so is who has no address on this network
    assert len(neighbours) == 0


def test_who_never_answers_is_forgotten_until_announced_again(neighbours: Neighbours) -> None:
    neighbours.heard(HIGH, 0, HERE, 0.0)
    now, dialled = 0.0, []
    while HIGH in neighbours:
        now = max(now, neighbours.deadline)
        assert keys_due(neighbours, now) == [HIGH]
        dialled.append(now)
        neighbours.ended(HIGH, now, failed=True)
    assert len(dialled) == MAX_FAILURES
    pauses = [after - before for before, after in pairwise(dialled)]
    assert all(second > 1.1 * first for first, second in pairwise(pauses))
    assert sum(pauses) < 20
    neighbours.heard(HIGH, 0, HERE, now)
    assert keys_due(neighbours, now) == [HIGH]


def test_a_link_that_lasted_makes_up_for_failures(neighbours: Neighbours) -> None:
    neighbours.heard(HIGH, 0, HERE, 0.0)
    now = 0.0
    for _ in range(3 * MAX_FAILURES):
        now = max(now, neighbours.deadline)
        assert keys_due(neighbours, now) == [HIGH]
        neighbours.links([HIGH], now)
        now += STEADY_AFTER
        neighbours.links([], now)
        neighbours.ended(HIGH, now, failed=True)
    assert HIGH in neighbours


def test_a_service_of_several_that_is_withdrawn_leaves_the_others(neighbours: Neighbours) -> None:
    neighbours.heard(HIGH, 0, HERE, 0.0)
    neighbours.heard(HIGH, 1, HERE, 0.0)
    neighbours.withdrawn(HIGH, 0)
    assert HIGH in neighbours
    neighbours.withdrawn(HIGH, 1)
    neighbours.withdrawn(HIGH, 1)
    assert keys_due(neighbours, 0.0) == []


def test_a_neighbour_that_moved_is_dialled_where_it_is_now(neighbours: Neighbours) -> None:
    neighbours.heard(HIGH, 0, HERE, 0.0)
    neighbours.due(0.0)
    for now in (0.0, 1.0, 3.0):
        neighbours.ended(HIGH, now, failed=True)
    neighbours.heard(HIGH, 0, THERE, 3.0)
    (due,) = neighbours.due(3.5)
    assert due.addresses == THERE


def test_no_crowd_of_neighbours_grows_beyond_its_bound(neighbours: Neighbours) -> None:
    for number in range(2 * MAX_NEIGHBOURS):
        neighbours.heard(PublicKey(number.to_bytes(32, "big")), 0, HERE, 0.0)
    assert len(neighbours) == MAX_NEIGHBOURS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "withdrawn", "up", "down", "dial", "failed", "given up"]),
            st.sampled_from([LOW, HIGH, OTHER]),
            st.floats(0, 5),
        ),
        max_size=60,
    )
)
def test_nobody_is_dialled_twice_at_a_time(steps: list[tuple[str, PublicKey, float]]) -> None:
    neighbours, now = Neighbours(OWN, Random(1)), 0.0
    dialling: set[PublicKey] = set()
    links: set[PublicKey] = set()
    for step, key, pause in steps:
        now += pause
        if step == "heard":
            neighbours.heard(key, 0, HERE, now)
        elif step == "withdrawn":
            neighbours.withdrawn(key, 0)
        elif step in ("up", "down"):
            links = links | {key} if step == "up" else links - {key}
            neighbours.links(links, now)
        elif step == "dial":
            due = set(keys_due(neighbours, now))
            assert not due & (dialling | links)
            dialling |= due
        elif key in dialling:
            dialling.discard(key)
            neighbours.ended(key, now, failed=step == "failed")
            assert keys_due(neighbours, now) == [] or key not in dialling


# ---- the shell


async def test_the_first_address_that_answers_is_taken(nursery: trio.Nursery) -> None:
    (listener,) = await tcp.open_listeners(Address("127.0.0.1", 0))
    nursery.start_soon(trio.serve_listeners, _hold, [listener])
    good = tcp.bound_address(listener)
    bad = Address("127.0.0.2", 1)
    stream, address = await connect_to_any((bad, good, bad))
    assert address == good
    await stream.aclose()
    with pytest.raises(NetworkError):
        await connect_to_any((bad,))


async def _hold(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def test_our_listener_takes_both_kinds_of_addresses() -> None:
    async with open_lan_listener() as listener:
        port = tcp.bound_address(listener).port
        for host in ("127.0.0.1", "::1") if _has_ipv6() else ("127.0.0.1",):
            async with await tcp.connect(Address(host, port)):
                await trio.aclose_forcefully(await listener.accept())


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_a_peer_that_is_not_the_one_that_was_announced_is_dropped(nursery: trio.Nursery) -> None:
    mine, theirs = (Exchange(Store.in_memory(), nursery, random=Random(seed)) for seed in (1, 2))
    for exchange in (mine, theirs):
        exchange.session(exchange.store.create("quiet"), eager=True)
    for expected, right in ((theirs.public_key, True), (PublicKey(bytes(32)), False)):
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as both:

            async def accept(stream: trio.abc.Stream = far) -> None:
                await theirs.use_stream(stream, False, "peer")

            both.start_soon(accept)
            if right:
                with trio.move_on_after(0.2) as scope:
                    await mine.use_stream(near, True, "peer", expected=expected)
                assert scope.cancelled_caught
            else:
                with pytest.raises(RemoteProtocolError):
                    await mine.use_stream(near, True, "peer", expected=expected)
                assert mine.drops == {"wrong-peer": 1}
            both.cancel_scope.cancel()


async def test_strangers_from_elsewhere_are_turned_away_at_the_door(nursery: trio.Nursery) -> None:
    lan = Lan(Exchange(Store.in_memory(), nursery), Random(1))
    nursery.start_soon(lan.run)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert lan.port is not None
    async with await tcp.connect(Address("127.0.0.1", lan.port)) as stream:  # no local network has it
        with trio.fail_after(5):
            assert await stream.receive_some() == b""


async def test_who_was_told_where_to_listen_opens_no_other_port(nursery: trio.Nursery) -> None:
    lan = Lan(Exchange(Store.in_memory(), nursery), Random(1), listening=[Address("127.0.0.1", 5000)])
    nursery.start_soon(lan.run)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert lan.port is None
