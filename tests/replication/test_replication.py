"""Replicators over real logs in a simulated network."""

from collections.abc import Callable
from math import inf

import pytest

from p2prss.log.proof_parts import BlockProof, BlockRequest, Proof, ProofRequest, TreeNode, UpgradeProof
from p2prss.replication.events import Completed, Stalled, Stored, Truncated
from p2prss.replication.limits import Limits
from p2prss.replication.wants import Priority
from p2prss.units import KIB, MIB
from p2prss.wire.messages import Data, Message, NoData, Range, Request, Sync
from tests.fakes.replication_network import (
    SimulatedNetwork,
    SimulatedNode,
    blocks_of,
    copy_of,
    reader_of,
    written,
)


def holds_all(*nodes: SimulatedNode) -> Callable[[], bool]:
    return lambda: all(node.log.length and node.log.contiguous_length == node.log.length for node in nodes)


def received(node: SimulatedNode) -> list[bytes]:
    return node.log.get_range(0, node.log.length)


@pytest.mark.parametrize("length", [0, 1, 2, 5, 300, 2000])
def test_a_reader_gets_all_blocks(length: int) -> None:
    network = SimulatedNetwork(length)
    writer = network.node("writer", written(length))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    network.run(60)
    assert reader.log.length == length
    assert received(reader) == blocks_of(length)
    assert not reader.dropped
    assert not writer.dropped
    if length:  # nothing was asked for twice, and the reader told the writer that it has all
        assert sorted(reader.requested_blocks()) == list(range(length))
        assert ("writer", Range(0, length)) in reader.sent


def test_out_of_order_answers_need_no_second_request_and_few_nodes() -> None:
    network = SimulatedNetwork(7)
    writer = network.node("writer", written(4096))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    network.run(60, holds_all(reader))
    assert received(reader) == blocks_of(4096)
    assert len(reader.requested_blocks()) == 4096
    nodes = sum(
        len(message.proof.block.nodes)
        for _, message in writer.sent
        if isinstance(message, Data) and message.proof.block is not None
    )
    assert nodes <= 4096 + 64  # about one per block: no path is sent twice


def test_a_sparse_reader_gets_only_what_it_wants() -> None:
    network = SimulatedNetwork(3)
    writer = network.node("writer", written(1000))
    reader = network.node("reader", reader_of(writer.log))
    wants = [reader.replicator.want(index, index + 1, Priority.PLAYHEAD) for index in (999, 0, 517)]
    network.connect(writer, reader)
    network.run(10)
    assert [index for index in range(1000) if reader.log.has(index)] == [0, 517, 999]
    assert {event.want for event in reader.news if isinstance(event, Completed)} == set(wants)


def test_one_request_brings_the_length_and_the_first_block() -> None:
    network = SimulatedNetwork()
    writer = network.node("writer", written(100))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(37, 38, Priority.PLAYHEAD)
    network.connect(writer, reader, delay=1.0)
    network.run(3.5)
    assert reader.log.has(37)  # one way for the sync, two for the question


def test_wants_that_are_met_already_are_completed_at_once() -> None:
    network = SimulatedNetwork()
    writer = network.node("writer", written(10))
    want = writer.replicator.want(2, 8, Priority.PLAYHEAD)
    writer.drain()
    assert writer.news == [Completed(want)]


def test_the_play_head_goes_before_read_ahead_before_background() -> None:
    network = SimulatedNetwork()
    writer = network.node("writer", written(400, 16 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, 100, Priority.BACKGROUND)
    reader.replicator.want(200, 230, Priority.READ_AHEAD)
    reader.replicator.want(300, 304, Priority.PLAYHEAD)
    network.connect(writer, reader)
    network.run(60)
    assert reader.requested_blocks() == [*range(300, 304), *range(200, 230), *range(100)]


def test_the_play_head_overtakes_what_was_asked_before() -> None:
    network = SimulatedNetwork()
    writer = network.node("writer", written(400, 64 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader, bandwidth=1e6)  # a pipe full of background takes seconds
    network.run(5)
    reader.replicator.want(350, 351, Priority.PLAYHEAD)
    last = max(reader.requested_blocks())
    reader.replicator.want(last, last + 1, Priority.PLAYHEAD)  # asked for already, far behind
    reader.drain()
    waited = network.run(30, lambda: reader.log.has(350) and reader.log.has(last))
    assert waited < 0.5


def test_several_peers_share_the_work() -> None:
    network = SimulatedNetwork(5)
    log = written(600, 16 * KIB)
    seeders = [network.node("a", log), network.node("b", copy_of(log, range(600)))]
    reader = network.node("reader", reader_of(log))
    reader.replicator.want(0, None)
    for seeder in seeders:
        network.connect(seeder, reader, bandwidth=5e6)
    took = network.run(60, holds_all(reader))
    shares = [len(reader.requested_blocks(name)) for name in "ab"]
    assert min(shares) > 200
    assert took < 0.65 * 600 * 16 * KIB / 5e6 + 0.5


def test_three_peers_with_disjoint_holdings() -> None:
    network = SimulatedNetwork(6)
    log = written(300)
    reader = network.node("reader", reader_of(log))
    for part in range(3):
        holder = network.node(f"holder {part}", copy_of(log, range(part, 300, 3)))
        network.connect(holder, reader)
    reader.replicator.want(0, None)
    reader.drain()
    network.run(30, holds_all(reader))
    assert received(reader) == blocks_of(300)
    assert not reader.dropped
    assert not any(
        isinstance(message, NoData) for holder in network_nodes(reader) for _, message in holder.sent
    )


def network_nodes(node: SimulatedNode) -> list[SimulatedNode]:
    return [link.far(node) for link in node.links.values()]


def test_readers_serve_each_other_what_they_have_so_far() -> None:
    network = SimulatedNetwork(8)
    writer = network.node("writer", written(500, 16 * KIB))
    first = network.node("first", reader_of(writer.log))
    second = network.node("second", reader_of(writer.log))
    first.replicator.want(0, None)
    second.replicator.want(0, None)
    network.connect(writer, first, bandwidth=2e6)
    network.connect(first, second, bandwidth=20e6)  # the second one does not know the writer
    took = network.run(60, holds_all(first, second))
    assert received(second) == blocks_of(500, 16 * KIB)
    assert took < 500 * 16 * KIB / 2e6 * 1.2 + 1


def test_a_silent_peer_delays_the_play_head_little_and_the_rest_not_for_long() -> None:
    network = SimulatedNetwork(9)
    log = written(100)
    silent = network.node("silent", log)
    good = network.node("good", copy_of(log, range(100)))
    reader = network.node("reader", copy_of(log, []))
    link = network.connect(silent, reader)
    network.connect(good, reader)
    network.run(1)
    link.silent = True
    reader.replicator.want(0, None)
    reader.replicator.want(50, 60, Priority.PLAYHEAD)
    reader.drain()
    assert network.run(30, lambda: reader.log.bitfield.all_set(50, 60)) < 1.5
    network.run(30, holds_all(reader))
    assert received(reader) == blocks_of(100)
    assert [peer.resting for peer in reader.replicator.peers()].count(True) <= 1


def test_requests_of_a_peer_that_left_go_to_another() -> None:
    network = SimulatedNetwork(10)
    log = written(1000, 4 * KIB)
    leaver = network.node("leaver", log)
    stayer = network.node("stayer", copy_of(log, range(1000)))
    reader = network.node("reader", reader_of(log))
    reader.replicator.want(0, None)
    link = network.connect(leaver, reader, bandwidth=1e6)
    network.connect(stayer, reader, bandwidth=1e6)
    network.run(1)
    link.close()
    network.run(30, holds_all(reader))
    assert received(reader) == blocks_of(1000, 4 * KIB)


def test_a_peer_that_was_given_up_is_welcome_again() -> None:
    network = SimulatedNetwork(11)
    writer = network.node("writer", written(10, 200 * KIB))
    reader = network.node("reader", copy_of(writer.log, []))
    network.connect(writer, reader, bandwidth=12 * KIB)  # 17 s per block: longer than a request may take
    network.run(1)
    reader.replicator.want(0, None)
    reader.drain()
    network.run(400, holds_all(reader))
    assert received(reader) == blocks_of(10, 200 * KIB)
    assert writer.replicator.peers()[0].blocks_sent <= 11


def test_live_appends_reach_readers_of_readers() -> None:
    network = SimulatedNetwork(12)
    writer = network.node("writer", written(3))
    middle = network.node("middle", reader_of(writer.log))
    end = network.node("end", reader_of(writer.log))
    for node in (middle, end):
        node.replicator.want(0, None)
    network.connect(writer, middle)
    network.connect(middle, end)
    network.run(2)
    for step in range(5):
        writer.append([b"new %d" % step])
        network.run(2)
        assert received(end)[-1] == b"new %d" % step
    assert received(end) == received(writer)


def test_an_append_arrives_in_one_round_trip() -> None:
    network = SimulatedNetwork()
    writer = network.node("writer", written(3))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader, delay=1.0)
    network.run(20)
    writer.append([b"new"])
    assert network.run(20, lambda: reader.log.length == 4 and reader.log.has(3)) < 3.5


def test_a_writer_gets_its_own_blocks_back() -> None:
    network = SimulatedNetwork(13)
    log = written(50)
    restored = reader_of(log)
    restored.key_pair = log.key_pair
    writer, peer = network.node("writer", restored), network.node("peer", copy_of(log, range(50)))
    writer.replicator.want(0, None)
    network.connect(writer, peer)
    network.run(5)
    writer.append([b"more"])
    network.run(5)
    assert received(writer) == [*blocks_of(50), b"more"]
    assert peer.log.length == 51


@pytest.mark.parametrize(("kept", "added"), [(6, 1), (3, 3), (8, 0), (1, 40)])
def test_truncation_is_followed(kept: int, added: int) -> None:
    network = SimulatedNetwork(14)
    writer = network.node("writer", written(10))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    network.run(2)
    writer.log.truncate(kept)
    if added:
        writer.log.append([b"other %d" % index for index in range(added)])
    writer.changed()
    network.run(5)
    assert reader.log.head == writer.log.head
    assert received(reader) == received(writer)
    assert any(isinstance(event, Truncated) for event in reader.news)
    assert not reader.dropped
    writer.append([b"and on"])
    network.run(5)
    assert received(reader) == received(writer)


def test_truncation_in_the_middle_of_a_download() -> None:
    network = SimulatedNetwork(15)
    writer = network.node("writer", written(1000, 4 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    other = network.node("other", reader_of(writer.log))
    for node in (reader, other):
        node.replicator.want(0, None)
        network.connect(writer, node, bandwidth=1e6)
    network.connect(reader, other)
    network.run(1)
    writer.log.truncate(300)
    writer.log.append(blocks_of(400, 10))
    writer.changed()
    network.run(60, holds_all(reader, other))
    assert received(reader) == received(writer) == received(other)
    assert not reader.dropped
    assert not other.dropped


def test_cancel_stops_what_nobody_else_wants() -> None:
    network = SimulatedNetwork(16)
    writer = network.node("writer", written(500, 64 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    want = reader.replicator.want(0, 400)
    reader.replicator.want(10, 20)
    network.connect(writer, reader, bandwidth=2e6)
    network.run(1)
    reader.replicator.cancel(want)
    reader.drain()
    network.run(20)
    assert reader.log.bitfield.all_set(10, 20)
    assert reader.log.bitfield.count(0, 500) < 120
    assert reader.replicator.peers()[0].in_flight == 0
    assert reader.replicator.deadline == inf or not reader.dropped


def test_cleared_blocks_are_withdrawn_before_anybody_asks() -> None:
    network = SimulatedNetwork(17)
    writer = network.node("writer", written(50))
    reader = network.node("reader", reader_of(writer.log))
    network.connect(writer, reader)
    network.run(1)
    writer.log.clear(10, 20)
    writer.changed()
    network.run(1)
    reader.replicator.want(0, None)
    reader.drain()
    network.run(3)
    assert [index for index in range(50) if not reader.log.has(index)] == list(range(10, 20))
    assert not any(isinstance(message, NoData) for _, message in writer.sent)
    assert isinstance(reader.news[-1], Stalled)


def test_seek_brings_the_nodes_that_tell_the_block() -> None:
    network = SimulatedNetwork(18)
    log = written(0)
    log.append([bytes(1 + index * 7 % 50) for index in range(200)])
    writer, reader = network.node("writer", log), network.node("reader", reader_of(log))
    network.connect(writer, reader)
    network.run(1)
    for byte_offset in (0, 1, 1234, log.byte_length - 1):
        want = reader.replicator.want_seek(byte_offset)
        reader.drain()
        network.run(1)
        assert Completed(want) in reader.news
        assert reader.log.seek(byte_offset) == log.seek(byte_offset)


# Hostile and broken peers


def change_block(message: Message) -> Message:
    match message:
        case Data(request_id, Proof(fork, BlockProof(index, _, nodes), upgrade=None)):
            return Data(request_id, Proof(fork, BlockProof(index, b"forged", nodes)))
    return message


def change_nodes(message: Message) -> Message:
    match message:
        case Data(request_id, Proof(fork, BlockProof(index, value, [first, *rest]), upgrade=None)):
            forged = TreeNode(first.index, first.size, bytes(32))
            return Data(request_id, Proof(fork, BlockProof(index, value, [forged, *rest])))
    return message


def change_signature(message: Message) -> Message:
    match message:
        case Data(request_id, Proof(fork, block, upgrade=UpgradeProof() as upgrade, manifest=manifest)):
            forged = upgrade._replace(signature=upgrade.signature[:-1] + b"?")
            return Data(request_id, Proof(fork, block, upgrade=forged, manifest=manifest))
    return message


def change_index(message: Message) -> Message:
    match message:
        case Data(request_id, Proof(fork, BlockProof(index, value, nodes), upgrade=None)):
            return Data(request_id, Proof(fork, BlockProof(index ^ 1, value, nodes)))
    return message


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (change_block, "bad-proof"),
        (change_nodes, "bad-proof"),
        (change_signature, "bad-proof"),
        (change_index, "wrong-answer"),
    ],
)
def test_a_liar_is_dropped_and_the_others_go_on(lie: Callable[[Message], Message], reason: str) -> None:
    network = SimulatedNetwork(19)
    log = written(200)
    liar, good = network.node("liar", log), network.node("good", copy_of(log, range(200)))
    reader = network.node("reader", reader_of(log))
    reader.replicator.want(0, None)
    liar.tamper = lie
    network.connect(liar, reader, delay=0.001)
    network.connect(good, reader, delay=0.05)
    network.run(60, holds_all(reader))
    assert received(reader) == blocks_of(200)
    assert reader.dropped == {"liar": reason}


def boast(message: Message) -> Message:
    match message:
        case Sync():
            return Sync(0, 2**50, 0, can_upgrade=True, has_manifest=True)
        case Range():
            return Range(0, 2**50)
        case Data() | NoData():
            return Data(2**40, Proof(0))
    return message


def test_an_announced_length_costs_nothing_until_it_is_proved() -> None:
    network = SimulatedNetwork(20)
    log = written(100)
    boaster, good = network.node("boaster", log), network.node("good", copy_of(log, range(100)))
    reader = network.node("reader", reader_of(log))
    boaster.tamper = boast
    reader.replicator.want(0, None)
    network.connect(boaster, reader, delay=0.001)
    network.connect(good, reader, delay=0.05)
    network.run(60, holds_all(reader))
    assert received(reader) == blocks_of(100)


def refuse(message: Message) -> Message:
    match message:
        case Data(request_id, Proof(upgrade=None)):
            return NoData(request_id)
    return message


def test_a_peer_that_refuses_everything_is_not_asked_for_ever() -> None:
    network = SimulatedNetwork(21)
    log = written(500)
    refuser, reader = network.node("refuser", log), network.node("reader", reader_of(log))
    refuser.tamper = refuse
    reader.replicator.want(0, None)
    network.connect(refuser, reader)
    network.run(120)
    assert len(reader.requested_blocks()) < 200


def test_requests_that_make_no_sense_end_the_connection() -> None:
    network = SimulatedNetwork(22)
    writer = network.node("writer", written(10))
    fool = network.node("fool", reader_of(writer.log))
    link = network.connect(writer, fool)
    network.run(1)
    for request_id in range(1, 101):
        link.carry(fool, Request(request_id, ProofRequest(0, block=BlockRequest(3, 40))))
    network.run(5)
    assert writer.dropped == {"fool": "invalid-requests"}


def test_endless_small_messages_end_the_connection() -> None:
    network = SimulatedNetwork(23)
    writer, fool = network.node("writer", written(10)), network.node("fool", reader_of(written(0)))
    link = network.connect(writer, fool)
    for length in range(40_000):
        writer.replicator.receive(link.numbers[writer], Sync(0, length % 7, 0), network.now)
    writer.drain()
    assert writer.dropped == {"fool": "flood"}


# Memory and back-pressure


def test_answers_stop_while_the_peer_does_not_read() -> None:
    network = SimulatedNetwork(24)
    writer = network.node("writer", written(400, 64 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    link = network.connect(writer, reader, bandwidth=1e5)
    network.run(1)
    for index in range(400):
        link.carry(reader, Request(index + 1, ProofRequest(0, block=BlockRequest(index, 0))))
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max([most, *(sum(link._queued.values()) for link in writer.links.values())])
        return False

    network.run(30, watch)
    assert 2 * MIB < most <= 4 * MIB + 128 * KIB


def test_answers_are_held_back_while_the_disk_is_slow() -> None:
    network = SimulatedNetwork(25)
    writer = network.node("writer", written(400, 64 * KIB))
    limits = Limits(apply_bytes=1 * MIB)
    reader = network.node("reader", reader_of(writer.log), limits=limits, disk_seconds=0.5)
    reader.replicator.want(0, None)
    network.connect(writer, reader, bandwidth=100e6)
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max(most, len(reader._applies))
        return holds_all(reader)()

    network.run(60, watch)
    assert received(reader) == blocks_of(400, 64 * KIB)
    assert most <= 17


class Meter:
    """An upload limit of so many bytes per second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.free_at = 0.0

    def grant(self, peer: int, nbytes: int, now: float) -> float:
        if now < self.free_at:
            return self.free_at - now
        self.free_at = now + nbytes / self.rate if self.rate else inf
        return 0.0 if self.rate else inf


def test_an_upload_limit_slows_answers_down() -> None:
    network = SimulatedNetwork(26)
    writer = network.node("writer", written(50, 10_000), upload_limit=Meter(50_000))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    assert 9 < network.run(60, holds_all(reader)) < 15


def test_an_upload_limit_may_refuse() -> None:
    network = SimulatedNetwork(27)
    log = written(50)
    writer, other = (
        network.node("writer", log, upload_limit=Meter(0)),
        network.node("other", copy_of(log, range(50))),
    )
    reader = network.node("reader", reader_of(log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    network.connect(other, reader)
    network.run(30, holds_all(reader))
    assert received(reader) == blocks_of(50)
    assert not any(isinstance(message, Data) for _, message in writer.sent)


def test_a_full_disk_stops_asking_for_a_while() -> None:
    network = SimulatedNetwork(29)
    writer = network.node("writer", written(200, 4 * KIB))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    reader.disk_full_until = network.now + 20
    network.run(20)
    assert len(reader.requested_blocks()) < 600
    network.run(30)
    assert received(reader) == blocks_of(200, 4 * KIB)
    assert not reader.dropped


def test_a_reader_without_blocks_helps_others_to_the_new_length() -> None:
    network = SimulatedNetwork(30)
    writer = network.node("writer", written(333))
    first, second = (network.node(name, reader_of(writer.log)) for name in ("first", "second"))
    network.connect(writer, first)
    network.connect(first, second)
    network.run(1)
    for length in range(334, 340):
        writer.append([b"new"])
        network.run(1)
        assert second.log.length == length
    assert second.log.contiguous_length == 0


def test_an_idle_log_has_no_deadline() -> None:
    network = SimulatedNetwork(28)
    writer = network.node("writer", written(5))
    reader = network.node("reader", reader_of(writer.log))
    reader.replicator.want(0, None)
    network.connect(writer, reader)
    network.run(60)
    assert reader.replicator.deadline == writer.replicator.deadline == inf
    assert [event for event in reader.news if isinstance(event, Stored)][-1].stop == 5
