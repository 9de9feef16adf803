"""The stream machine, step by step: the reference's answers, its rules, and its limits."""

from collections.abc import Callable
from typing import Any

import pytest

from p2prss.errors import DecodeError, LocalProtocolError
from p2prss.net.udx.events import Closed, CloseReason, MessageReceived, Readable, RemoteChanged, RemoteEnded
from p2prss.net.udx.ghosts import GHOST_SECONDS, MAX_GHOSTS, Ghosts
from p2prss.net.udx.packet import (
    ACK,
    DATA,
    DESTROY,
    END,
    HEARTBEAT,
    MESSAGE,
    SACK,
    decode,
    encode,
    encode_ranges,
)
from p2prss.net.udx.receiving import MAX_AHEAD, RECEIVE_WINDOW, WINDOW_SLACK
from p2prss.net.udx.stream import UdxStream

Vectors = Callable[[str], dict[str, Any]]
WINDOW = 4 << 20


def connected(**options: Any) -> UdxStream[str]:
    stream: UdxStream[str] = UdxStream(100, 0.0, **options)
    stream.connect(7, "peer", 0.0)
    return stream


def data(seq: int, payload: bytes = b"x", ack: int = 0) -> bytes:
    return encode(DATA, 100, WINDOW, seq, ack, payload)


def ack(
    number: int, *, window: int = WINDOW, seq: int = 0, ranges: list[tuple[int, int]] | None = None
) -> bytes:
    body = encode_ranges(ranges) if ranges else b""
    return encode(SACK if ranges else ACK, 100, window, seq, number, body)


def without_window(datagram: bytes) -> str:
    return (datagram[:8] + bytes(4) + datagram[12:]).hex()


def is_for(datagram: bytes, stream_id: int) -> bool:
    try:
        header, _ = decode(datagram)
    except DecodeError:
        return False
    return header[3] == stream_id


def test_the_receiver_answers_like_the_reference(vectors: Vectors) -> None:
    stream = connected()
    now = 0.0
    for step in vectors("udx")["receiver_steps"]["steps"]:
        now += 0.1
        datagram = bytes.fromhex(step["in"])
        expected = [event for event in step["events"] if event.get("len") != 0]
        if not is_for(datagram, 100):
            assert [event["ev"] for event in expected] == ["sockmsg"], step["note"]
            continue
        events = stream.receive(datagram, now, "peer")
        out = [without_window(answer) for answer in stream.data_to_send(now)]
        if "ack far beyond" not in step["note"]:  # an acknowledgement does no harm there
            assert out == [without_window(bytes.fromhex(answer)) for answer in step["out"]], step["note"]
        wanted = "".join(event["hex"] for event in expected if event["ev"] == "data")
        assert stream.read(1 << 20).hex() == wanted, step["note"]
        messages = [event.data.hex() for event in events if isinstance(event, MessageReceived)]
        assert messages == [event["hex"] for event in expected if event["ev"] == "message"], step["note"]
        assert (RemoteEnded() in events) == any(event["ev"] == "end" for event in expected), step["note"]
        reset = any(event.get("code") == "ECONNRESET" for event in expected)
        assert (Closed(CloseReason.RESET) in events) == reset, step["note"]
    assert stream.close_reason is CloseReason.RESET


def test_far_numbers_that_the_reference_takes_are_not_taken(vectors: Vectors) -> None:
    stream = connected()
    far, in_order, behind, destroy = (
        bytes.fromhex(step["in"]) for step in vectors("udx")["receiver_extra"]["steps"]
    )
    for datagram, acknowledged in ((far, 0), (in_order, 1), (behind, 1)):
        stream.receive(datagram, 0.0, "peer")
        [answer] = stream.data_to_send(0.0)
        assert decode(answer)[0][1] == ACK
        assert decode(answer)[0][6] == acknowledged
    assert stream.receive(destroy, 0.0, "peer") == []
    assert not stream.closed


def test_the_sender_counts_like_the_reference(vectors: Vectors) -> None:
    steps = vectors("udx")["sender_steps"]
    stream = connected()
    stream.send(bytes(6000))
    first = stream.data_to_send(0.0)
    assert [packet[:20].hex() for packet in first] == [packet["head_hex"] for packet in steps["first"]]
    assert [len(packet) for packet in first] == [1172] * 5 + [260]
    in_flight, now = [], 0.05
    for step in steps["steps"]:
        stream.receive(bytes.fromhex(step["in"]), now, "peer")
        resent = stream.data_to_send(now)
        if not resent and step["out"]:  # the reference need not wait: its clock is coarse
            now = stream.deadline
            stream.handle_timer(now)
            resent = stream.data_to_send(now)
        assert [packet[12:16].hex() for packet in resent] == [out["head_hex"][24:32] for out in step["out"]]
        in_flight.append(stream.sender.flight.in_flight)
        assert stream.sender.resent_count == step["js_retransmits"]
    assert in_flight == [6, 5, 5, 4, 4, 3, 0]


def test_captured_data_is_put_together_whatever_its_order(vectors: Vectors) -> None:
    captures = {capture["name"]: capture for capture in vectors("udx")["captures"]}
    packets = captures["data_before_connect"]["packets"]
    early = [packet for packet in packets if packet["dir"] == "me>js"]
    recorded = next(packet for packet in packets if packet["dir"] == "js>me")
    stream: UdxStream[str] = UdxStream(100, 0.0)
    for packet in early[:2]:
        stream.receive(bytes.fromhex(packet["hex"]), 0.0, "peer")
    assert stream.data_to_send(0.0) == []
    stream.connect(7, "peer", 1.0)
    [answer] = stream.data_to_send(1.0)
    assert without_window(answer) == without_window(bytes.fromhex(recorded["hex"]))
    stream.receive(bytes.fromhex(early[2]["hex"]), 1.0, "peer")
    assert stream.read(100) == b"early0midearly2"


def test_one_acknowledgement_answers_a_batch() -> None:
    stream = connected()
    batch = [(*decode(data(seq, b"%d" % seq)), "peer") for seq in range(20)]
    assert stream.receive_batch(batch, 0.0) == [Readable()]
    assert len(stream.data_to_send(0.0)) == 1
    assert stream.data_to_send(0.0) == []


def test_data_carries_the_acknowledgement_when_there_is_no_gap() -> None:
    stream = connected()
    stream.receive(data(0, b"ping"), 0.0, "peer")
    stream.send(b"pong")
    [packet] = stream.data_to_send(0.0)
    header, body = decode(packet)
    assert (header[1], header[6], body) == (DATA, 1, b"pong")


def test_the_end_goes_in_the_last_packet_that_is_not_full() -> None:
    stream = connected()
    stream.send(b"last words")
    stream.end()
    [packet] = stream.data_to_send(0.0)
    assert decode(packet)[0][1] == DATA | END
    with pytest.raises(LocalProtocolError):
        stream.send(b"more")


def test_a_shut_window_is_asked_for_with_heartbeats_until_it_opens() -> None:
    stream = connected()
    stream.send(b"one")
    stream.data_to_send(0.0)
    stream.receive(ack(1, window=0), 0.1, "peer")
    stream.send(b"two")
    asked, now = 0, 0.1
    assert stream.data_to_send(now) == []
    while asked < 3:
        assert stream.deadline < now + 10
        now = stream.deadline
        stream.handle_timer(now)
        out = stream.data_to_send(now)
        asked += sum(decode(packet)[0][1] == HEARTBEAT for packet in out)
        assert all(decode(packet)[0][1] == HEARTBEAT for packet in out)
    stream.receive(ack(1, seq=0), now, "peer")
    assert [decode(packet)[1] for packet in stream.data_to_send(now)] == [b"two"]


def test_a_reader_who_wakes_up_tells_of_the_room() -> None:
    stream = connected(window=100_000)
    for seq in range(70):
        stream.receive(data(seq, bytes(1152)), 0.0, "peer")
        stream.data_to_send(0.0)
    assert stream.receiver.window < 20_000
    stream.read(1 << 20)
    [answer] = stream.data_to_send(0.0)
    assert decode(answer)[0][4] == 100_000


def test_a_silent_peer_is_given_up() -> None:
    stream = connected()
    stream.send(b"anybody?")
    sent, now = len(stream.data_to_send(0.0)), 0.0
    while not stream.closed:
        now = stream.deadline
        stream.handle_timer(now)
        sent += len(stream.data_to_send(now))
    assert stream.close_reason is CloseReason.TIMED_OUT
    assert 13 <= now < 20
    assert 6 <= sent < 15
    assert stream.data_to_send(now) == []


def test_a_keepalive_goes_out_only_while_nothing_is_under_way() -> None:
    stream = connected()
    stream.set_keepalive(5.0, 0.0)
    assert stream.deadline == 5.0
    stream.handle_timer(5.0)
    assert decode(stream.data_to_send(5.0)[0])[0][1] == HEARTBEAT
    assert stream.deadline == 10.0
    stream.receive(encode(HEARTBEAT, 100, 0, 0, 0), 6.0, "peer")
    assert decode(stream.data_to_send(6.0)[0])[0][1] == ACK


def test_another_way_is_taken_at_once_and_the_old_one_is_told_apart() -> None:
    stream = connected()
    stream.send(b"old way")
    stream.data_to_send(0.0)
    stream.change_remote(42, "other", 0.1)
    assert stream.migrating
    stream.send(b"new way")
    [packet] = stream.data_to_send(0.1)
    assert decode(packet)[0][3:6:2] == (42, 1)
    assert stream.receive(ack(1), 0.2, "peer") == [RemoteChanged()]
    assert not stream.migrating
    assert stream.remote is not None
    assert stream.remote.address == "other"


def test_messages_go_and_come_whatever_the_state() -> None:
    stream = connected()
    stream.send_message(b"hole punched")
    [packet] = stream.data_to_send(0.0)
    assert decode(packet)[0][1] == MESSAGE
    assert stream.receive(encode(MESSAGE, 100, 0, 0, 0), 0.0, "peer") == [MessageReceived(b"")]
    assert stream.data_to_send(0.0) == []


# ----------------------------------------------------------------------- hostile peers


def test_a_destroy_counts_only_from_where_the_peer_is_and_near_its_number() -> None:
    stream = connected()
    stream.receive(encode(DESTROY, 100, 0, 0, 0), 0.0, "stranger")
    stream.receive(encode(DESTROY, 100, 0, MAX_AHEAD, 0), 0.0, "peer")
    stream.receive(encode(DESTROY, 100, 0, -1, 0), 0.0, "peer")
    assert not stream.closed
    assert stream.receive(encode(DESTROY, 100, 0, 3, 0), 0.0, "peer") == [Closed(CloseReason.RESET)]


def test_acknowledgements_of_what_was_never_sent_mean_nothing() -> None:
    stream = connected()
    stream.send(bytes(5000))
    stream.data_to_send(0.0)
    for number in (6, 1000, 2**31 - 1, 2**31, 2**32 - 1):
        stream.receive(ack(number, window=0), 0.1, "peer")
    lies = [(0, 2**31), (4, 2), (3, 3), (5, 400), (2**32 - 5, 2)]
    stream.receive(ack(0, ranges=lies), 0.1, "peer")
    assert stream.sender.flight.in_flight == 5
    assert stream.sender.window == WINDOW


def test_sacks_that_are_taken_back_change_nothing() -> None:
    stream = connected()
    stream.send(bytes(9000))
    stream.data_to_send(0.0)
    for ranges in ([(2, 4)], [(3, 5)], [(2, 3)], [(2, 5)]):
        stream.receive(ack(1, ranges=ranges), 0.1, "peer")
    flight = stream.sender.flight
    assert (flight.una, flight.sacked_count, flight.unacked) == (1, 3, 7)


def test_packets_out_of_order_are_held_only_up_to_the_window() -> None:
    stream = connected()
    for seq in range(1, 8000):
        stream.receive(data(seq, bytes(1152)), 0.0, "peer")
    stream.data_to_send(0.0)
    held = RECEIVE_WINDOW + WINDOW_SLACK - stream.receiver.window
    assert held <= RECEIVE_WINDOW + WINDOW_SLACK
    assert stream.receiver.dropped > 4000
    stream.receive(data(0, bytes(1152)), 0.0, "peer")  # the gap is closed all the same
    assert stream.receiver.unread_bytes > 3 << 20


def test_tiny_packets_are_charged_for_what_they_cost() -> None:
    stream = connected()
    for seq in range(1, MAX_AHEAD + 2000):
        stream.receive(data(seq, b""), 0.0, "peer")
    assert stream.receiver.dropped >= 2000
    assert len(stream.receiver.sack_ranges()) == 1
    stream = connected()
    for seq in range(200_000):
        stream.receive(data(seq, b"x"), 0.0, "peer")
    assert stream.receiver.unread_bytes < RECEIVE_WINDOW // 50


def test_a_peer_that_ignores_the_window_gains_nothing() -> None:
    stream = connected(window=50_000)
    for seq in range(500):
        stream.receive(data(seq, bytes(1152)), 0.0, "peer")
    assert stream.receiver.unread_bytes <= 50_000 + WINDOW_SLACK + 1152
    assert stream.receiver.window == 0


def test_ghosts_repeat_the_last_words_only_to_the_peer_and_only_for_a_while() -> None:
    ghosts: Ghosts[str] = Ghosts()
    ghosts.add(5, b"last", "peer", 0.0)
    assert ghosts.answer(5, END, "peer", 1.0) == b"last"
    assert ghosts.answer(5, ACK, "peer", 1.0) is None
    assert ghosts.answer(5, DATA, "stranger", 1.0) is None
    assert ghosts.answer(5, DATA, "peer", GHOST_SECONDS + 1) is None
    assert 5 not in ghosts
    for number in range(MAX_GHOSTS + 10):
        ghosts.add(number, b"last", "peer", 100.0)
    assert len(ghosts) == MAX_GHOSTS
