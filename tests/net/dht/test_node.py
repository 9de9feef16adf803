"""The node machine, datagram by datagram: relays as the reference does, answers, tokens, reachability."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.endpoint import Endpoint, node_id, pack_endpoint
from p2prss.net.dht.handshake import HandshakeEnvelope, HolepunchEnvelope
from p2prss.net.dht.messages import (
    Command,
    ErrorCode,
    Internal,
    Reply,
    Request,
    decode_datagram,
)
from p2prss.net.dht.node import DhtMachine
from p2prss.net.dht.records import (
    Announcement,
    LookupReply,
    MutablePut,
    MutableValue,
    PeerRecord,
    peer_target,
    sign_announcement,
)
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.dht.requests import Outgoing
from p2prss.net.dht.state import CLIENT, SERVER, DhtConfig
from p2prss.net.dht.storage import RECORD_LIFETIME, Route

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "dht.json").read_text("utf-8"))
HERE = Endpoint("127.0.0.1", 40001)
THERE = Endpoint("127.0.0.1", 40002)
KEY = KeyPair.from_seed(bytes(32))
TOPIC = bytes(range(32))


def endpoint(value: dict[str, Any]) -> Endpoint:
    return Endpoint(value["host"], value["port"])


def persistent(here: Endpoint = HERE) -> DhtMachine:
    config = DhtConfig(server_port=here.port, public_endpoint=here, single_socket=True)
    return DhtMachine(config, random=Random(1), now=0.0, unix_time=1.7e9)


def ephemeral(*bootstraps: Endpoint, wish: bool | None = None) -> DhtMachine:
    config = DhtConfig(bootstraps, server_port=HERE.port, ephemeral=wish)
    return DhtMachine(config, random=Random(1), now=0.0, unix_time=1.7e9)


def ask(machine: DhtMachine, request: Request, source: Endpoint = THERE, now: float = 0.0) -> list[Reply]:
    """Replies to one request that go back to its source."""
    machine.receive(request.encode(), source, SERVER, now)
    replies = [decode_datagram(data, HERE) for _, to, data in machine.data_to_send() if to == source]
    return [reply for reply in replies if isinstance(reply, Reply)]


def token_of(machine: DhtMachine, source: Endpoint = THERE, now: float = 0.0) -> bytes:
    [reply] = ask(machine, Request(1, HERE, Command.LOOKUP, target=TOPIC), source, now)
    assert reply.token is not None
    return reply.token


def announce(machine: DhtMachine, key_pair: KeyPair = KEY, topic: bytes = TOPIC, now: float = 0.0) -> Request:
    token = token_of(machine, now=now)
    own_id = machine.state.id
    assert own_id is not None
    value = sign_announcement(
        Command.ANNOUNCE, topic, own_id, token, PeerRecord(key_pair.public_key), key_pair
    ).encode()
    return Request(2, HERE, Command.ANNOUNCE, token=token, target=topic, value=value)


def routed(machine: DhtMachine) -> list[Outgoing]:
    """What it sends, but for its own pings to those it met."""
    sent = [(outgoing, decode_datagram(outgoing.data, HERE)) for outgoing in machine.data_to_send()]
    return [outgoing for outgoing, message in sent if not (isinstance(message, Request) and message.internal)]


# ---------------------------------------------------------------- as the reference, byte by byte


@pytest.mark.parametrize("flow", VECTORS["router_flows"], ids=lambda flow: flow["name"])
def test_messages_take_the_way_of_the_reference(flow: dict[str, Any]) -> None:
    """R and R2 (ports 50002, 50004) relay; what they send is, byte for byte, what the reference sends."""
    steps, target = flow["steps"], bytes.fromhex(flow["target"])
    relays = {Endpoint("127.0.0.1", port): persistent(Endpoint("127.0.0.1", port)) for port in (50002, 50004)}
    server_endpoint, relay_endpoint = Endpoint("127.0.0.1", 50003), Endpoint("127.0.0.1", 50002)
    if "no route" not in flow["name"]:
        last = Endpoint("127.0.0.1", 50004) if "two relays" in flow["name"] else relay_endpoint
        relays[last].state.store.set_route(target, Route(server_endpoint, SERVER, b""), 0.0)
    if "two relays" in flow["name"]:  # R and R2 know each other and R the server, or they would not forward
        relays[relay_endpoint].relay.heard(Endpoint("127.0.0.1", 50004), 0.0)
        relays[relay_endpoint].relay.heard(server_endpoint, 0.0)
    relays[relay_endpoint].relay.heard(server_endpoint, 0.0)
    sent = 0
    for step, following in pairwise(steps):
        machine = relays.get(endpoint(step["to"]))
        if machine is None:
            continue
        machine.receive(bytes.fromhex(step["datagram"]), endpoint(step["from"]), SERVER, 0.0)
        [outgoing] = routed(machine)
        assert outgoing.to == endpoint(following["to"])
        assert outgoing.data.hex() == following["datagram"]
        sent += 1
    assert sent == sum(endpoint(step["to"]) in relays for step in steps[:-1])


@pytest.mark.parametrize("flow", VECTORS["router_flows"][:2], ids=lambda flow: flow["name"])
def test_a_server_answers_the_way_the_message_came(flow: dict[str, Any]) -> None:
    machine, steps = ephemeral(), flow["steps"]
    server = Endpoint("127.0.0.1", 50003)
    [arriving] = [place for place, step in enumerate(steps) if endpoint(step["to"]) == server]
    reply = decode_datagram(bytes.fromhex(steps[arriving + 1]["datagram"]), server)
    assert reply.value is not None
    noise = HandshakeEnvelope.decode(reply.value).noise
    messages: list[PeerMessage] = []

    def handle(message: PeerMessage, now: float) -> None:
        messages.append(message)
        machine.relay.answer(message, noise, now)

    machine.relay.serve(bytes.fromhex(flow["target"]), handle)
    machine.receive(
        bytes.fromhex(steps[arriving]["datagram"]), endpoint(steps[arriving]["from"]), CLIENT, 0.0
    )
    [outgoing] = routed(machine)
    assert (outgoing.to, outgoing.data.hex()) == (
        endpoint(steps[arriving + 1]["to"]),
        steps[arriving + 1]["datagram"],
    )
    assert outgoing.socket == CLIENT
    assert messages[0].client_address == endpoint(steps[0]["from"])
    assert messages[0].to == server


def test_a_wrong_token_is_answered_with_a_fresh_one() -> None:
    [case] = [case for case in VECTORS["rpc_decode"] if case["name"].startswith("wrong token")]
    machine = persistent()
    machine.receive(bytes.fromhex(case["datagram"]), endpoint(case["from"]), SERVER, 0.0)
    [outgoing] = machine.data_to_send()
    got = decode_datagram(outgoing.data, HERE)
    wanted = decode_datagram(bytes.fromhex(case["sent_back"]), HERE)
    assert isinstance(got, Reply)
    assert isinstance(wanted, Reply)
    assert (got.tid, got.to, got.id, got.error) == (wanted.tid, wanted.to, wanted.id, wanted.error)
    assert got.token == machine.state.tokens.issue(THERE.host, 0.0)


# ---------------------------------------------------------------- answers


def test_internal_commands() -> None:
    machine = persistent()
    [pong] = ask(machine, Request(1, HERE, Internal.PING, True))
    assert (pong.to, pong.id, pong.token, pong.closer_nodes) == (THERE, node_id(HERE), None, ())
    assert ask(machine, Request(1, HERE, Internal.FIND_NODE, True)) == []
    [found] = ask(machine, Request(1, HERE, Internal.FIND_NODE, True, target=TOPIC))
    assert found.token is None
    machine.receive(Request(3, HERE, Internal.PING_NAT, True, value=b"\x39\x30").encode(), THERE, SERVER, 0.0)
    [other_port] = machine.data_to_send()
    assert other_port.to == Endpoint(THERE.host, 12345)
    assert ask(machine, Request(1, HERE, Internal.PING_NAT, True, value=b"\0\0")) == []
    [unknown] = ask(machine, Request(1, HERE, 99, True))
    assert unknown.error == ErrorCode.UNKNOWN_COMMAND


def test_a_delayed_ping_waits_and_the_waiting_are_few() -> None:
    machine = persistent()
    value = (2500).to_bytes(4, "little")
    assert ask(machine, Request(7, HERE, Internal.DELAYED_PING, True, value=value)) == []
    assert machine.deadline == 2.5
    machine.handle_timer(2.5)
    [(_, to, _)] = machine.data_to_send()
    assert to == THERE
    assert ask(machine, Request(7, HERE, Internal.DELAYED_PING, True, value=b"\xff" * 4)) == []
    for _ in range(400):
        ask(machine, Request(7, HERE, Internal.DELAYED_PING, True, value=value), now=3.0)
    machine.handle_timer(60.0)
    pongs = [data for _, to, data in machine.data_to_send() if to == THERE]
    assert len(pongs) == 256


def test_an_ephemeral_node_keeps_nothing() -> None:
    [reply] = ask(ephemeral(), Request(1, HERE, Command.LOOKUP, target=TOPIC))
    assert (reply.error, reply.id, reply.token) == (ErrorCode.UNKNOWN_COMMAND, None, None)


def test_announcements_are_kept_and_revoked() -> None:
    machine = persistent()
    [stored] = ask(machine, announce(machine))
    assert (stored.error, stored.token, stored.closer_nodes) == (0, None, ())
    [reply] = ask(machine, Request(1, HERE, Command.LOOKUP, target=TOPIC))
    assert reply.value is not None
    assert LookupReply.decode(reply.value).peers == (PeerRecord(KEY.public_key),)
    token = token_of(machine)
    revoked = sign_announcement(
        Command.UNANNOUNCE, TOPIC, node_id(HERE), token, PeerRecord(KEY.public_key), KEY
    )
    request = Request(2, HERE, Command.UNANNOUNCE, token=token, target=TOPIC, value=revoked.encode())
    assert len(ask(machine, request)) == 1
    [reply] = ask(machine, Request(1, HERE, Command.LOOKUP, target=TOPIC))
    assert reply.value is None


def test_a_server_that_announces_itself_gets_a_route_nobody_else_can_set() -> None:
    machine, target = persistent(), peer_target(KEY.public_key)
    ask(machine, announce(machine, topic=target))
    route = machine.state.store.route(target, 0.0)
    assert route is not None
    assert route.relay == THERE
    [found] = ask(machine, Request(1, HERE, Command.FIND_PEER, target=target))
    assert found.value == PeerRecord(KEY.public_key).encode()
    hijacker = KeyPair.from_seed(b"\1" * 32)
    source = Endpoint("127.0.0.1", 6666)
    token = token_of(machine, source)
    forged = sign_announcement(
        Command.ANNOUNCE, target, node_id(HERE), token, PeerRecord(KEY.public_key), hijacker
    )
    request = Request(2, HERE, Command.ANNOUNCE, token=token, target=target, value=forged.encode())
    assert ask(machine, request, source) == []
    assert machine.state.store.route(target, 0.0) == route


def test_a_refresh_chain_renews_without_signatures_and_each_link_once() -> None:
    machine = persistent()
    secret = b"\x11" * 32
    first = blake2b(secret)
    token = token_of(machine)
    peer = PeerRecord(KEY.public_key)
    signed = sign_announcement(
        Command.ANNOUNCE, TOPIC, node_id(HERE), token, peer, KEY, refresh=blake2b(first)
    )
    ask(machine, Request(2, HERE, Command.ANNOUNCE, token=token, target=TOPIC, value=signed.encode()))
    late = RECORD_LIFETIME - 1
    for preimage, answers in ((first, 1), (first, 0), (secret, 1), (b"\x22" * 32, 0)):
        token = token_of(machine, now=late)
        value = Announcement(None, preimage).encode()
        request = Request(3, HERE, Command.ANNOUNCE, token=token, target=TOPIC, value=value)
        assert len(ask(machine, request, now=late)) == answers
    assert len(machine.state.store.lookup(TOPIC, RECORD_LIFETIME + 1)) == 1
    assert machine.state.store.lookup(TOPIC, 3 * RECORD_LIFETIME) == []


def test_mutable_values_only_go_forward() -> None:
    machine, target = persistent(), peer_target(KEY.public_key)

    def put(seq: int, value: bytes) -> list[Reply]:
        content = MutablePut(KEY.public_key, MutableValue.signed(seq, value, KEY)).encode()
        return ask(
            machine,
            Request(1, HERE, Command.MUTABLE_PUT, token=token_of(machine), target=target, value=content),
        )

    assert put(5, b"five")[0].error == 0
    assert put(5, b"five")[0].error == 0
    assert put(5, b"other")[0].error == ErrorCode.SEQ_REUSED
    assert put(4, b"four")[0].error == ErrorCode.SEQ_TOO_LOW
    assert put(6, b"six")[0].error == 0
    for oldest, there in ((b"\0", True), (b"\6", True), (b"\7", False)):
        [reply] = ask(machine, Request(1, HERE, Command.MUTABLE_GET, target=target, value=oldest))
        assert (reply.value is not None) == there
    assert ask(machine, Request(1, HERE, Command.MUTABLE_GET, target=target)) == []


def test_wrong_writes_are_met_with_silence() -> None:
    machine = persistent()
    token = token_of(machine)
    good = announce(machine)
    other_node = sign_announcement(
        Command.ANNOUNCE, TOPIC, bytes(32), token, PeerRecord(KEY.public_key), KEY
    ).encode()
    big = bytes(1001)
    for command, target, value in (
        (Command.ANNOUNCE, TOPIC, None),
        (Command.ANNOUNCE, TOPIC, b"\xff"),
        (Command.ANNOUNCE, TOPIC, other_node),  # signed for another node
        (Command.ANNOUNCE, bytes(32), good.value),  # for another topic
        (Command.UNANNOUNCE, TOPIC, good.value),  # for another command
        (Command.IMMUTABLE_PUT, TOPIC, b"not its hash"),
        (Command.IMMUTABLE_PUT, blake2b(big), big),
        (Command.MUTABLE_PUT, TOPIC, b"\x01\x02"),
        (Command.PEER_HANDSHAKE, TOPIC, b"\x01"),
        (Command.PEER_HOLEPUNCH, TOPIC, b"\x01\x07"),
        (Command.LOOKUP, None, None),
        (Command.FIND_PEER, None, None),
    ):
        assert ask(machine, Request(9, HERE, command, token=token, target=target, value=value)) == []
    assert machine.state.store.statistics()["records"] == 0


# ---------------------------------------------------------------- questions of our own


def sent_to(machine: DhtMachine, to: Endpoint) -> list[Request]:
    found = [decode_datagram(data, HERE) for _, where, data in machine.data_to_send() if where == to]
    return [request for request in found if isinstance(request, Request)]


def test_requests_are_repeated_and_then_fail() -> None:
    machine, failed = persistent(), []
    machine.state.send_request(THERE, Internal.PING, 0.0, internal=True, on_failure=failed.append)
    sends = len(sent_to(machine, THERE))
    for second in range(1, 6):
        machine.handle_timer(float(second))
        sends += len(sent_to(machine, THERE))
    assert (sends, failed) == (4, [4.0])
    assert len(machine.state.requests) == 0


def test_replies_count_only_from_where_the_question_went() -> None:
    machine, replies = persistent(), []
    machine.state.send_request(
        THERE, Internal.PING, 0.0, internal=True, on_reply=lambda response, _: replies.append(response)
    )
    [request] = sent_to(machine, THERE)
    pong = Reply(request.tid, HERE).encode()
    machine.receive(pong, Endpoint("127.0.0.1", 50000), SERVER, 0.1)
    assert replies == []
    assert machine.state.requests.forged == 1
    machine.receive(pong, THERE, SERVER, 0.1)
    machine.receive(pong, THERE, SERVER, 0.1)  # doubled on the way
    assert [response.round_trip for response in replies] == [0.1]


def test_the_window_bounds_what_is_sent_at_once() -> None:
    machine = persistent()
    for port in range(1, 301):
        machine.state.send_request(Endpoint("127.0.0.1", port), Internal.PING, 0.0, internal=True)
    assert len(machine.data_to_send()) == 80
    machine.handle_timer(0.75)
    assert len(machine.data_to_send()) == 80
    assert machine.state.requests.queued == 140


def test_timeouts_follow_the_network() -> None:
    machine = persistent()
    for _ in range(20):
        machine.state.send_request(THERE, Internal.PING, 0.0, internal=True)
        [request] = sent_to(machine, THERE)
        machine.receive(Reply(request.tid, HERE).encode(), THERE, SERVER, 0.08)
    assert machine.state.requests.round_trips.timeout == 0.25
    assert machine.state.requests.round_trips.smoothed == pytest.approx(0.08)


def test_what_a_node_passes_on_has_twice_the_time_and_says_nothing_of_that_node() -> None:
    machine = persistent()
    round_trips = machine.state.requests.round_trips
    for _ in range(30):
        machine.state.send_request(THERE, Internal.PING, 0.0, internal=True)
        [request] = sent_to(machine, THERE)
        machine.receive(Reply(request.tid, HERE).encode(), THERE, SERVER, 0.3)
    assert round_trips.relayed_timeout == pytest.approx(2 * round_trips.timeout)
    machine.state.send_request(THERE, Command.PEER_HOLEPUNCH, 0.0, target=TOPIC, value=b"", relayed=True)
    [request] = sent_to(machine, THERE)
    machine.handle_timer(round_trips.timeout)
    assert sent_to(machine, THERE) == []
    machine.handle_timer(round_trips.relayed_timeout)
    assert sent_to(machine, THERE) == [request]


def test_who_is_patient_waits_longer() -> None:
    machine, failed = persistent(), []
    machine.state.send_request(
        THERE, Internal.PING, 0.0, internal=True, sends=1, patience=5.0, on_failure=failed.append
    )
    assert machine.deadline == 5.0
    machine.handle_timer(5.0)
    assert (len(sent_to(machine, THERE)), failed) == (1, [5.0])


# ---------------------------------------------------------------- who we are


def bootstrap_by_hand(
    machine: DhtMachine, nodes: list[Endpoint], seen_as: Endpoint, *, nat_open: bool
) -> None:
    """Play the network: every node answers; PING_NAT reaches the server socket only if ``nat_open``."""
    now = 0.0
    machine.bootstrap(now)
    for _ in range(40):
        now += 0.01
        for socket, to, data in machine.data_to_send():
            request = decode_datagram(data, seen_as)
            if not isinstance(request, Request) or to not in nodes:
                continue
            asks_nat = request.internal and request.command == Internal.PING_NAT
            port = int.from_bytes(request.value or b"", "little") if asks_nat else seen_as.port + socket
            closer = tuple(nodes) if request.command == Internal.FIND_NODE else ()
            reply = Reply(request.tid, Endpoint(seen_as.host, port), node_id(to), closer_nodes=closer)
            if not asks_nat:
                machine.receive(reply.encode(), to, socket, now)
            elif nat_open:
                machine.receive(reply.encode(), to, SERVER, now)


NODES = [Endpoint(f"20.0.{number}.1", 49737) for number in range(8)]
SEEN_AS = Endpoint("30.1.2.3", HERE.port)


@pytest.mark.parametrize("nat_open", [True, False])
def test_only_proof_makes_a_node_reachable(nat_open: bool) -> None:
    machine = ephemeral(*NODES[:3], wish=False)
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=nat_open)
    assert machine.bootstrapped
    assert machine.state.firewalled is not nat_open
    assert machine.state.ephemeral is not nat_open
    assert machine.state.public_endpoint == (SEEN_AS if nat_open else None)
    if nat_open:
        assert machine.state.table.own_id == node_id(SEEN_AS)
        assert machine.state.request_socket == SERVER


def test_a_node_that_is_to_keep_records_asks_soon_again_when_the_first_proof_is_lost() -> None:
    machine = ephemeral(*NODES[:3], wish=False)
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=False)
    for second in range(1, 5):
        machine.handle_timer(float(second))
    machine.data_to_send()
    for second in range(5, 16):
        machine.handle_timer(float(second))
    sent = [decode_datagram(data, SEEN_AS) for _, _, data in machine.data_to_send()]
    assert any(isinstance(one, Request) and one.internal and one.command == Internal.PING_NAT for one in sent)


def test_a_node_that_may_choose_waits_twenty_minutes() -> None:
    machine = ephemeral(*NODES[:3])
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=True)
    assert not machine.state.firewalled
    assert machine.state.ephemeral
    machine.reachability.tick(20 * 60.0)
    assert not machine.state.ephemeral
    machine.reachability.wake(21 * 60.0)
    assert machine.state.ephemeral


def test_a_node_that_moved_claims_nothing_until_it_is_proven_again() -> None:
    machine = ephemeral(*NODES[:3], wish=False)
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=True)
    assert machine.state.id == node_id(SEEN_AS)
    for _ in range(16):
        machine.state.sampler.add(Endpoint("30.9.9.9", 1024))
    machine.handle_timer(5.0)
    assert machine.state.firewalled
    assert machine.state.id is None
    assert machine.state.public_endpoint is None


def test_after_a_sleep_everything_is_asked_again() -> None:
    machine = ephemeral(*NODES[:3], wish=None)
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=True)
    machine.data_to_send()
    machine.handle_timer(3600.0)
    for second in range(1, 15):
        machine.handle_timer(3600.0 + second)
    asked = {to for _, to, _ in machine.data_to_send()}
    assert asked >= set(NODES[:3])
    assert machine.state.ephemeral


def test_with_one_socket_nothing_is_claimed() -> None:
    config = DhtConfig(tuple(NODES[:3]), server_port=HERE.port, ephemeral=False, single_socket=True)
    machine = DhtMachine(config, random=Random(1), now=0.0, unix_time=1.7e9)
    bootstrap_by_hand(machine, NODES, SEEN_AS, nat_open=True)
    assert machine.state.firewalled
    assert machine.state.ephemeral


def test_the_table_forgets_the_dead_and_meets_the_living() -> None:
    machine = persistent()
    newcomer = Endpoint("127.0.0.1", 41000)
    request = Request(1, HERE, Internal.PING, True, id=node_id(newcomer))
    machine.receive(request.encode(), newcomer, SERVER, 0.0)
    pings = sent_to(machine, newcomer)
    assert len(machine.state.table) == 0  # its address may be forged
    machine.receive(Reply(pings[0].tid, HERE, node_id(newcomer)).encode(), newcomer, SERVER, 0.1)
    assert machine.state.table.get(node_id(newcomer)) is not None
    hint = Request(2, HERE, Internal.DOWN_HINT, True, value=pack_endpoint(newcomer))
    machine.receive(hint.encode(), THERE, SERVER, 10.0)
    for second in range(11, 17):
        machine.handle_timer(float(second))
    assert machine.state.table.get(node_id(newcomer)) is None


def test_punch_messages_are_forwarded_to_known_addresses_only() -> None:
    machine = persistent()
    stranger = Endpoint("127.0.0.1", 7777)
    envelope = HolepunchEnvelope(0, 1, b"sealed", stranger)
    request = Request(5, HERE, Command.PEER_HOLEPUNCH, target=TOPIC, value=envelope.encode())
    machine.receive(request.encode(), THERE, SERVER, 0.0)
    assert machine.data_to_send() == []
    machine.receive(Request(1, HERE, Internal.PING, True).encode(), stranger, SERVER, 0.0)
    machine.data_to_send()
    machine.receive(request.encode(), THERE, SERVER, 1.0)
    [outgoing] = machine.data_to_send()
    assert outgoing.to == stranger
    machine.receive(request.encode(), THERE, SERVER, 62.0)  # not heard from for a minute
    assert machine.data_to_send() == []
    assert machine.relay.refused == 2
