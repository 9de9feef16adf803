"""What a hostile peer can do to a node, and how much of it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.net.dht import storage
from p2prss.net.dht.endpoint import Endpoint, node_id, pack_endpoint
from p2prss.net.dht.expiring import ExpiringMap
from p2prss.net.dht.messages import Command, Internal, Reply, Request, decode_datagram
from p2prss.net.dht.node import DhtMachine
from p2prss.net.dht.rate_limit import (
    MAX_HOSTS,
    PROVEN_BURST,
    PROVEN_RATE,
    UNPROVEN_BURST,
    UNPROVEN_RATE,
    ReplyLimit,
)
from p2prss.net.dht.records import Announcement, PeerRecord, sign_announcement
from p2prss.net.dht.responder import VERIFY_COST
from p2prss.net.dht.routing import K
from p2prss.net.dht.state import SERVER, DhtConfig
from p2prss.net.dht.storage import RecordStore, Route
from p2prss.net.dht.upkeep import MAX_CHECKS

HERE = Endpoint("20.0.0.1", 49737)
VICTIM = Endpoint("30.0.0.1", 5555)
TOPIC = bytes(range(32))
KEY = KeyPair.from_seed(bytes(32))


def node() -> DhtMachine:
    config = DhtConfig(server_port=HERE.port, public_endpoint=HERE, allow_private=False, single_socket=True)
    return DhtMachine(config, random=Random(1), now=0.0, unix_time=1.7e9)


def full_node() -> DhtMachine:
    """One whose answer to a lookup is as large as it can be."""
    machine = node()
    for number in range(400):
        contact = Endpoint(f"21.0.{number >> 4}.{number & 15}", 49737)
        machine.upkeep.meet(contact, 0.0)
        for _, to, data in machine.data_to_send():  # none when its row is full
            reply = Reply(decode_datagram(data, HERE).tid, HERE, node_id(contact))
            machine.receive(reply.encode(), to, SERVER, 0.0)
    for number in range(40):
        key = blake2b(bytes([number]))
        relays = tuple(Endpoint("1.2.3.4", port) for port in (1, 2, 3))
        machine.state.store.announce(TOPIC, key, PeerRecord(key, relays).encode(), "9.9.9.9", 0.0)
    return machine


def test_forged_sources_are_not_buried() -> None:
    """1,000 lookups per second for ten seconds, with the victim's address as source."""
    machine = full_node()
    request = Request(1, HERE, Command.LOOKUP, target=TOPIC).encode()
    bytes_in = bytes_out = largest = 0
    for step in range(10_000):
        machine.receive(request, VICTIM, SERVER, step / 1000)
        bytes_in += len(request)
        for _, to, data in machine.data_to_send():
            assert to == VICTIM
            bytes_out += len(data)
            largest = max(largest, len(data))
    assert 1100 < largest < 1472  # one datagram of one packet: 28 times the 44 bytes of the question
    assert bytes_out <= UNPROVEN_BURST + 10 * UNPROVEN_RATE + 4 * 11  # and a ping: prove that it is you
    assert bytes_out < bytes_in  # in the long run nothing is amplified
    assert machine.state.limit.refused > 9000


def test_many_forged_sources_do_not_renew_a_budget_for_free() -> None:
    limit, sent = ReplyLimit(), 0
    for round_number in range(3):
        while limit.allows(VICTIM.host, 1200, 0.0):
            sent += 1200
        for number in range(MAX_HOSTS):
            limit.allows(f"40.{round_number}.{number >> 8}.{number & 255}", 1200, 0.0)
    cost = 3 * MAX_HOSTS * 44  # bytes the attacker sent to push the victim's entry out
    assert sent <= 3 * UNPROVEN_BURST < cost


def test_a_host_that_proved_itself_may_ask_more() -> None:
    limit = ReplyLimit()
    while limit.allows(VICTIM.host, 1200, 0.0):
        pass
    limit.prove(VICTIM.host, 0.0)
    assert sum(limit.allows(VICTIM.host, 1200, 1.0) for _ in range(200)) == 200


def test_a_host_that_asks_much_is_asked_to_prove_itself() -> None:
    machine = full_node()
    request = Request(1, HERE, Command.LOOKUP, target=TOPIC).encode()
    answered = 0
    for step in range(400):
        machine.receive(request, VICTIM, SERVER, step / 1000)
        for _, to, data in machine.data_to_send():
            message = decode_datagram(data, HERE)
            answered += isinstance(message, Reply)
            if isinstance(message, Request):  # it lives, and answers
                machine.receive(Reply(message.tid, HERE).encode(), to, SERVER, step / 1000)
    assert answered >= 100


def test_forged_ids_and_sources_do_not_enter_the_table() -> None:
    """Strangers with valid ids are pinged first, few at a time; what does not answer is nobody."""
    machine, pings = node(), 0
    for number in range(5000):
        source = Endpoint(f"50.{number >> 8}.{number & 255}.1", 49737)
        request = Request(1, HERE, Internal.FIND_NODE, True, id=node_id(source), target=TOPIC)
        machine.receive(request.encode(), source, SERVER, number / 1000)
        machine.handle_timer(number / 1000)
        sent = [decode_datagram(data, HERE) for _, _, data in machine.data_to_send()]
        pings += sum(isinstance(message, Request) for message in sent)
    assert len(machine.state.table) == 0
    assert pings <= 4 * MAX_CHECKS * 3  # 4 sends each, ten at a time, 4 s until one is given up


def test_a_full_row_keeps_its_old_members_while_they_live() -> None:
    machine = full_node()
    far = bytes([node_id(HERE)[0] ^ 0x80]) + bytes(31)  # the row that is easiest to fill
    before = list(machine.state.table.row(far))
    assert len(before) == K
    for number in range(2000):
        source = Endpoint(f"60.{number >> 8}.{number & 255}.1", 49737)
        reply = Reply(machine.state.requests.new_tid(), HERE, node_id(source))
        machine.receive(reply.encode(), source, SERVER, 1.0)  # nobody asked it
        machine.upkeep.meet(source, 1.0)
    assert machine.state.table.row(far) == before


def test_closer_nodes_that_make_no_sense_are_not_visited() -> None:
    machine = node()
    for host, port in (("0.0.0.0", 1), ("224.0.0.1", 1), ("10.0.0.1", 1), ("127.0.0.1", 1), ("8.8.8.8", 0)):
        assert not machine.state.accepts(Endpoint(host, port))
    assert not machine.state.accepts(HERE)
    assert machine.state.accepts(Endpoint("8.8.8.8", 1))


def test_a_token_cannot_be_replayed_from_another_host_nor_later() -> None:
    machine, thief = node(), Endpoint("31.0.0.1", 5555)
    token = machine.state.tokens.issue(VICTIM.host, 0.0)
    signed = sign_announcement(
        Command.ANNOUNCE, TOPIC, node_id(HERE), token, PeerRecord(KEY.public_key), KEY
    ).encode()
    request = Request(1, HERE, Command.ANNOUNCE, token=token, target=TOPIC, value=signed).encode()
    for source, now, stored in ((thief, 1.0, 0), (VICTIM, 16.0, 0)):
        machine.receive(request, source, SERVER, now)
        assert machine.state.store.statistics()["records"] == stored
    fresh = machine.state.tokens.issue(VICTIM.host, 20.0)
    swapped = Request(1, HERE, Command.ANNOUNCE, token=fresh, target=TOPIC, value=signed)
    machine.receive(swapped.encode(), VICTIM, SERVER, 20.0)  # signed for the older token
    assert machine.state.store.statistics()["records"] == 0


def test_a_flood_of_records_evicts_itself() -> None:
    store = RecordStore(Random(1))
    honest = [blake2b(bytes([number])) for number in range(100)]
    for number, target in enumerate(honest):
        store.announce(target, KEY.public_key, b"honest", f"70.0.0.{number}", 0.0)
    for number in range(storage.MAX_RECORDS + 5000):
        digest = number.to_bytes(32, "big")
        store.announce(digest, digest, b"flood", f"66.0.0.{number % 4}", 1.0)
    statistics = store.statistics()
    assert statistics["records"] <= storage.MAX_RECORDS
    assert statistics["topics"] == statistics["records"]
    assert all(store.lookup(target, 2.0) == [b"honest"] for target in honest)


def test_a_crowded_topic_keeps_the_few_of_other_hosts() -> None:
    store = RecordStore(Random(1))
    store.announce(TOPIC, b"honest", b"honest", "70.0.0.1", 0.0)
    for number in range(2000):
        store.announce(TOPIC, number.to_bytes(32, "big"), b"flood", "66.0.0.1", 1.0)
    assert store.statistics()["records"] == storage.MAX_RECORDS_PER_TOPIC
    drawn = [store.lookup(TOPIC, 2.0) for _ in range(200)]
    assert all(len(records) == 20 for records in drawn)
    assert any(b"honest" in records for records in drawn)


def test_values_are_bounded_in_bytes() -> None:
    store = RecordStore(Random(1))
    for number in range(30_000):
        store.put_immutable(number.to_bytes(32, "big"), bytes(1000), f"66.{number >> 10}.0.1", 0.0)
    assert store.statistics()["value_bytes"] <= storage.MAX_VALUE_BYTES


def test_routes_expire_and_are_bounded_per_host() -> None:
    store = RecordStore(Random(1))
    for number in range(5000):
        store.set_route(number.to_bytes(32, "big"), Route(VICTIM, SERVER, b""), 0.0)
    assert store.statistics()["routes"] == storage.MAX_ROUTES_PER_HOST
    newest = (4999).to_bytes(32, "big")
    assert store.route(newest, storage.RECORD_LIFETIME - 1) is not None
    assert store.route(newest, storage.RECORD_LIFETIME + 1) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("abc"), st.integers(0, 9), st.floats(0, 4)), max_size=80
    )
)
def test_an_expiring_map_keeps_its_promises(steps: list[tuple[int, str, int, float]]) -> None:
    store: ExpiringMap[int, int] = ExpiringMap(10.0, max_entries=8, max_per_host=5, max_bytes=30)
    now, written = 0.0, {}
    for key, host, size, pause in steps:
        now += pause
        store.put(key, size, host, now, size=size)
        written[key] = (size, now)
        assert store.get(key, now) == size
        assert len(store) <= 8
        assert store.bytes <= 30
        for other, (value, at) in written.items():
            found = store.get(other, now)
            assert found is None or (found == value and now - at < 10)


def machine_with_traffic() -> tuple[DhtMachine, list[bytes]]:
    machine = node()
    machine.start_query(TOPIC, Command.LOOKUP, 0.0, start=[VICTIM])
    machine.state.send_request(VICTIM, Internal.PING, 0.0, internal=True)
    sent = [decode_datagram(data, HERE) for _, _, data in machine.data_to_send()]
    replies = [
        Reply(message.tid, HERE, node_id(VICTIM), bytes(32), (HERE, VICTIM), 0, b"\x01").encode()
        for message in sent
    ]
    token = machine.state.tokens.issue(VICTIM.host, 0.0)
    requests = [
        Request(1, HERE, command, internal, token=token, target=TOPIC, value=value).encode()
        for internal, commands in ((True, range(6)), (False, range(12)))
        for command in commands
        for value in (None, b"", b"\x01\x00", pack_endpoint(VICTIM), Announcement(None, bytes(32)).encode())
    ]
    return machine, [*replies, *requests]


@given(st.data())
def test_nothing_a_stranger_sends_raises(data: st.DataObject) -> None:
    machine, known = machine_with_traffic()
    for now in range(data.draw(st.integers(1, 20))):
        datagram = data.draw(st.sampled_from(known) | st.binary(max_size=200))
        if data.draw(st.booleans()) and datagram:
            place = data.draw(st.integers(0, len(datagram) - 1))
            datagram = datagram[:place] + bytes([data.draw(st.integers(0, 255))]) + datagram[place + 1 :]
        source = data.draw(st.sampled_from([VICTIM, HERE, Endpoint("127.0.0.1", 0), Endpoint("1.1.1.1", 9)]))
        machine.receive(datagram, source, SERVER, float(now))
        machine.handle_timer(float(now))
        for outgoing in machine.data_to_send():
            assert len(outgoing.data) <= 1472
            assert outgoing.to.port != 0


@pytest.mark.parametrize("command", [Command.PEER_HANDSHAKE, Command.PEER_HOLEPUNCH])
def test_a_node_is_no_open_forwarder(command: Command) -> None:
    """No mode and no address in an envelope makes it send to somebody it has not heard from."""
    machine, third_party = node(), Endpoint("99.0.0.1", 80)
    for mode in range(6):
        for flags in range(4):
            addresses = pack_endpoint(third_party) * 2
            middle = b"\x03abc" if command == Command.PEER_HANDSHAKE else b"\x01\x03abc"
            value = bytes([flags, mode]) + middle + addresses
            request = Request(1, HERE, command, target=TOPIC, value=value)
            machine.receive(request.encode(), VICTIM, SERVER, 0.0)
    assert {outgoing.to for outgoing in machine.data_to_send()} <= {VICTIM}


def test_signatures_to_check_are_booked() -> None:
    """A host that proved itself cannot keep a node busy with signatures either."""
    machine = node()
    machine.state.limit.prove(VICTIM.host, 0.0)
    token = machine.state.tokens.issue(VICTIM.host, 0.0)
    value = Announcement(PeerRecord(KEY.public_key), signature=bytes(64)).encode()
    request = Request(1, HERE, Command.ANNOUNCE, token=token, target=TOPIC, value=value).encode()
    for step in range(5000):
        machine.receive(request, VICTIM, SERVER, step / 5000)
    checked = 5000 - machine.state.limit.refused
    assert checked <= (PROVEN_BURST + PROVEN_RATE) / VERIFY_COST
    assert machine.data_to_send() == []
