"""Channels: the reference's bytes, every order of opens and closes, floods."""

import contextlib
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from p2prss.codec.compact import Buffer, Writer
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.units import KIB, MIB
from p2prss.wire.mux import (
    MAX_BATCH_MESSAGES,
    MAX_CHANNELS,
    MAX_PENDING_BYTES,
    MAX_UNANSWERED,
    PENDING_MESSAGE_COST,
    Closed,
    Mux,
    Opened,
    Received,
    Rejected,
    RemoteOpen,
)
from p2prss.wire.mux_channel import TRANSITIONS, ChannelState, MuxChannel, Step
from p2prss.wire.secret_stream import MAX_PLAINTEXT_BYTES

ALPHA = "hypercore/alpha"
ID = b"\x11" * 32


class End:
    """A mux and the frames it made."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.mux = Mux(self._send, MAX_PLAINTEXT_BYTES)

    def _send(self, parts: list[Buffer]) -> None:
        self.frames.append(b"".join(parts))

    def take(self) -> list[bytes]:
        frames = self.frames[:]
        self.frames.clear()
        return frames

    def events(self) -> list[Any]:
        return self.mux.take_events()

    def receive(self, *frames: str | bytes) -> list[Any]:
        for frame in frames:
            self.mux.receive(memoryview(bytes.fromhex(frame) if isinstance(frame, str) else frame))
        return self.events()


def exchange(left: End, right: End) -> tuple[list[Any], list[Any]]:
    events: tuple[list[Any], list[Any]] = (left.events(), right.events())
    while left.frames or right.frames:
        events[1].extend(right.receive(*left.take()))
        events[0].extend(left.receive(*right.take()))
    return events


def opened() -> tuple[End, End, MuxChannel, MuxChannel]:
    left, right = End(), End()
    ours = left.mux.open(ALPHA, ID, b"left")
    theirs = right.mux.open(ALPHA, ID, b"right")
    exchange(left, right)
    return left, right, ours, theirs


def open_frame(
    remote_id: int, protocol: str = ALPHA, channel_id: bytes = ID, handshake: bytes = b""
) -> bytes:
    out = Writer()
    out.uint(0)
    out.uint(1)
    out.uint(remote_id)
    out.string(protocol)
    out.optional_buffer(channel_id)
    out.raw(handshake)
    return out.finish()


def test_what_we_send_matches_the_reference(wire_vectors: dict[str, Any]) -> None:
    expected = {case["name"]: case["hex"] for case in wire_vectors["protomux"]}
    singles = [case["hex"] for case in wire_vectors["protomux"] if case["name"] == "single message"]
    end = End()

    def frame(name: str) -> None:
        assert [sent.hex() for sent in end.take()] == [expected[name]]

    first = end.mux.open(ALPHA, ID, b"\x01" + b"\x33" * 32)
    frame("open with 32-byte id and handshake")
    second = end.mux.open("corestore", b"")
    frame("open without id, without handshake")
    first.send(0, b"\xaa")
    first.send(2, b"\xbb", memoryview(b"\xcc"))
    assert [sent.hex() for sent in end.take()] == singles
    end.mux.cork()
    first.send(0, b"\x01")
    first.send(1, b"\x02", b"\x03")
    end.mux.uncork()
    frame("batch, one channel")
    end.mux.cork()
    end.mux.cork()
    first.send(0, b"\x01")
    second.send(0, b"\x04\x05")
    end.mux.uncork()
    assert not end.frames
    first.send(2, b"\x06")
    end.mux.uncork()
    frame("batch, channel switches")
    end.mux.cork()
    end.mux.open("x", b"\x22" * 32)
    first.send(0, b"\x07")
    end.mux.uncork()
    frame(next(name for name in expected if name.startswith("batch containing an open")))
    end.mux.cork()
    first.send(0, b"\x08")
    end.mux.uncork()
    frame("batch with a single message")
    end.mux.reject(end.receive(open_frame(1, "unknown"))[0])
    frame("reject of remote id 1")
    second.close()
    frame("close of local id 2")


def test_what_the_reference_sends_is_understood(wire_vectors: dict[str, Any]) -> None:
    end = End()
    channels = {}
    for case in wire_vectors["protomux"]:
        decoded = case["decoded"]
        if case["name"] == "reject of remote id 0":
            continue  # JavaScript made it up for the vectors: 0 is never opened
        if case["name"] == "reject of remote id 1":
            other = End()
            ours = other.mux.open("unknown", b"")
            assert other.receive(case["hex"]) == [Rejected(ours)]
            continue
        events = end.receive(case["hex"])
        if decoded.get("control") == 3:
            assert events == [Closed(channels[decoded["local_id"]])]
            continue
        for item in decoded.get("messages", [decoded]):
            event = events.pop(0)
            if item.get("control") == 1:
                handshake = bytes.fromhex(item.get("handshake", ""))
                name = bytes.fromhex(item["id"] or "")
                assert event == RemoteOpen(item["local_id"], item["protocol"], name, handshake)
                channels[item["local_id"]] = end.mux.open(item["protocol"], name)
                end.events()
            else:
                channel = channels[item["channel"]]
                assert event == Received(channel, item["type"], memoryview(bytes.fromhex(item["payload"])))
        assert not events


def test_a_channel_is_open_when_both_sides_have_opened_it() -> None:
    left, right = End(), End()
    ours = left.mux.open(ALPHA, ID, b"left")
    ours.send(0, b"early")
    assert ours.state is ChannelState.OFFERED
    frames = left.take()
    [remote_open] = right.receive(frames[0])
    assert remote_open == RemoteOpen(1, ALPHA, ID, b"left")
    assert right.receive(frames[1]) == []
    theirs = right.mux.open(ALPHA, ID, b"right")
    assert theirs.state is ChannelState.OPEN
    assert right.events() == [Opened(theirs, b"left"), Received(theirs, 0, memoryview(b"early"))]
    assert left.receive(*right.take()) == [Opened(ours, b"right")]
    assert ours.remote_handshake == b"right"


def test_opens_that_cross_pair_without_a_reject() -> None:
    left, right, ours, theirs = opened()
    assert ours.state is theirs.state is ChannelState.OPEN
    ours.send(7, b"x")
    assert exchange(left, right) == ([], [Received(theirs, 7, memoryview(b"x"))])


def test_numbers_of_both_sides_may_differ() -> None:
    left, right = End(), End()
    nobody = left.mux.open(ALPHA, b"only left")
    ours = left.mux.open(ALPHA, ID)
    [first, _] = right.receive(*left.take())
    right.mux.reject(first)
    theirs = right.mux.open(ALPHA, ID)
    right.events()
    assert exchange(left, right)[0] == [Rejected(nobody), Opened(ours, b"")]
    assert (ours.local_id, ours.remote_id) == (theirs.remote_id, theirs.local_id) == (2, 1)
    ours.send(1, b"to the right")
    theirs.send(2, b"to the left")
    to_left, to_right = exchange(left, right)
    assert to_left == [Received(ours, 2, memoryview(b"to the left"))]
    assert to_right == [Received(theirs, 1, memoryview(b"to the right"))]


def test_one_close_is_enough_and_frees_the_numbers() -> None:
    left, right, ours, theirs = opened()
    theirs.send(1, b"too late")
    ours.close()
    ours.close()
    assert exchange(left, right) == ([], [Closed(theirs)])
    again = left.mux.open(ALPHA, ID)
    assert again.local_id == ours.local_id == 1
    assert exchange(left, right)[1] == [RemoteOpen(1, ALPHA, ID, b"")]


def test_both_may_close_at_once() -> None:
    left, right, ours, theirs = opened()
    ours.close()
    theirs.close()
    assert exchange(left, right) == ([], [])
    left.mux.open(ALPHA, ID)
    right.mux.open(ALPHA, ID)
    assert [type(event) for events in exchange(left, right) for event in events] == [Opened, Opened]


def test_sending_after_the_remote_closed_is_dropped_but_after_our_close_it_is_a_mistake() -> None:
    left, right, ours, theirs = opened()
    theirs.close()
    exchange(left, right)
    assert ours.closed
    ours.send(0, b"nobody there")
    assert not left.frames
    with pytest.raises(LocalProtocolError):
        theirs.send(0, b"")


def test_a_withdrawn_offer_keeps_its_number_until_it_is_answered() -> None:
    left, right = End(), End()
    offer = left.mux.open(ALPHA, ID)
    offer.close()
    assert offer.state is ChannelState.WITHDRAWN
    assert left.mux.open(ALPHA, b"other").local_id == 2
    left_events, right_events = exchange(left, right)
    assert left_events == []  # the reject of what was withdrawn is no news
    assert [event.id for event in right_events] == [ID, b"other"]
    right.mux.reject(right_events[0])  # withdrawn meanwhile: nothing to say
    assert not right.frames
    assert left.mux.open(ALPHA, b"third").local_id == 1


def test_a_withdrawn_offer_that_crossed_with_their_open_is_closed_on_both_sides() -> None:
    left, right = End(), End()
    offer = left.mux.open(ALPHA, ID)
    theirs = right.mux.open(ALPHA, ID)
    offer.close()
    left_events, right_events = exchange(left, right)
    assert left_events == []
    assert right_events == [Opened(theirs, b""), Closed(theirs)]
    assert left.mux.open(ALPHA, b"other").local_id == 1


def test_the_same_channel_twice_is_rejected() -> None:
    left, _, _, _ = opened()
    assert left.receive(open_frame(2)) == []
    assert left.take() == [bytes.fromhex("000202")]
    with pytest.raises(LocalProtocolError):
        left.mux.open(ALPHA, ID)


def test_an_answered_open_cannot_be_rejected() -> None:
    end = End()
    [remote_open] = end.receive(open_frame(1))
    end.mux.open(ALPHA, ID)
    end.take()
    end.mux.reject(remote_open)
    assert end.take() == []


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ("000205", "reject of what was never offered"),
        ("000201", "reject of what is open"),
        ("00010501780000", "open under a number that skips some"),
        ("00010101780000", "open under a number in use"),
        ("00010001780000", "open of the control channel"),
        ("0000000400000100", "a batch inside a batch"),
        ("00", "a frame that ends in its head"),
        ("0001", "an open without anything"),
        ("000102fd8000" + "61" * 128 + "ff", "an open cut short"),
        ("000102fd8100" + "61" * 129 + "00", "a protocol name too long"),
        ("000102" + "0178" + "fd8100" + "61" * 129, "an id too long"),
        ("000102" + "0178" + "00" + "61" * 1025, "a handshake too long"),
    ],
    ids=lambda value: value if " " in value else "",
)
def test_breaking_the_rules_ends_the_connection(frame: str, why: str) -> None:
    end = opened()[0]
    with pytest.raises(RemoteProtocolError):
        end.receive(frame)


def test_what_is_not_known_is_ignored() -> None:
    end = opened()[0]
    empty, control_type_9, channel_9, close_9, batch_of_nothing = "", "000901", "0900ff", "000309", "000001"
    assert end.receive(empty, control_type_9, channel_9, close_9, batch_of_nothing) == []
    assert end.take() == []


def test_messages_before_we_open_are_bounded() -> None:
    end = End()
    end.receive(open_frame(1))
    for _ in range(MAX_PENDING_BYTES // PENDING_MESSAGE_COST):
        end.receive("0100")
    with pytest.raises(RemoteProtocolError) as raised:
        end.receive("0100")
    assert raised.value.reason == "flood"


def test_what_waited_is_given_back_to_the_limit() -> None:
    end = End()
    for turn in range(5):
        [remote_open] = end.receive(open_frame(1))
        end.receive(b"\x01\x00" + bytes(30 * KIB))
        if turn % 2:
            end.mux.reject(remote_open)
        else:
            end.mux.open(ALPHA, ID).close()
            end.events()


def test_a_flood_of_opens_is_rejected_beyond_the_limit() -> None:
    end = End()
    events = [
        event
        for n in range(MAX_UNANSWERED)
        for event in end.receive(open_frame(n + 1, channel_id=n.to_bytes(2, "big")))
    ]
    assert len(events) == MAX_UNANSWERED
    assert not end.frames
    for _ in range(2000):  # a rejected number is free again
        assert end.receive(open_frame(MAX_UNANSWERED + 1, channel_id=b"one more")) == []
    assert set(end.take()) == {bytes.fromhex("0002fd0102")}
    end.mux.open(ALPHA, b"ours")  # what we begin ourselves is our own business
    assert end.receive(open_frame(MAX_UNANSWERED + 1, channel_id=b"ours")) != []


@pytest.mark.parametrize("size", [1, 2000, 2 * MAX_CHANNELS])
def test_as_many_channels_open_as_are_answered(size: int) -> None:
    """A seeder of a thousand feeds offers two thousand logs, all at once or one by one."""
    end, count = End(), 0
    frames = (open_frame(n + 1, channel_id=n.to_bytes(2, "big")) for n in range(MAX_CHANNELS + 100))
    while batch := list(islice(frames, size)):
        for event in end.receive(*batch):
            if isinstance(event, RemoteOpen):
                count += 1
                assert end.mux.open(event.protocol, event.id).state is ChannelState.OPEN
    assert count == MAX_CHANNELS


def test_a_batch_of_too_many_messages_is_refused() -> None:
    end = opened()[0]
    items = bytes.fromhex("0100")
    assert len(end.receive(b"\x00\x00\x01" + items * MAX_BATCH_MESSAGES)) == MAX_BATCH_MESSAGES
    with pytest.raises(RemoteProtocolError):
        end.receive(b"\x00\x00\x01" + items * (MAX_BATCH_MESSAGES + 1))


def test_an_item_longer_than_its_batch_is_cut_as_the_reference_does() -> None:
    left, _, ours, _ = opened()
    assert left.receive("000001" + "09" + "07aa") == [Received(ours, 7, memoryview(b"\xaa"))]


def test_answers_to_a_batch_are_a_batch() -> None:
    end = opened()[0]
    twice = open_frame(2)[1:]
    end.receive(b"\x00\x00\x00" + bytes([len(twice)]) + twice + bytes([len(twice)]) + twice)
    assert end.take() == [bytes.fromhex("000000" + "020202" * 2)]


def test_a_batch_is_sent_before_it_grows_too_large() -> None:
    left, right, ours, theirs = opened()
    block = memoryview(bytes(3 * MIB))
    left.mux.cork()
    for _ in range(7):
        ours.send(3, b"head", block, b"tail")
    ours.send(3, bytes(15 * MIB))
    left.mux.uncork()
    assert [len(frame) // MIB for frame in left.frames] == [9, 9, 3, 15]
    assert all(len(frame) <= MAX_PLAINTEXT_BYTES for frame in left.frames)
    sizes = [len(event.payload) for event in exchange(left, right)[1]]
    assert sizes == [3 * MIB + 8] * 7 + [15 * MIB]
    left.mux.cork()
    with pytest.raises(LocalProtocolError):
        ours.send(3, bytes(16 * MIB))
    assert theirs.state is ChannelState.OPEN


def test_uncork_needs_a_cork() -> None:
    with pytest.raises(LocalProtocolError):
        End().mux.uncork()


@pytest.mark.parametrize("state", ChannelState)
@pytest.mark.parametrize("step", Step)
def test_an_illegal_step_changes_nothing(state: ChannelState, step: Step) -> None:
    channel = End().mux.open(ALPHA, ID)
    channel.state = state
    if (state, step) in TRANSITIONS:
        channel.step(step)
        assert channel.state is TRANSITIONS[state, step]
    else:
        with pytest.raises(LocalProtocolError):
            channel.step(step)
        assert channel.state is state


CONTROL = st.one_of(
    st.builds(open_frame, st.integers(0, 4), st.sampled_from(["a", "b"]), st.sampled_from([b"", b"i"])),
    st.builds(lambda kind, number: bytes([0, kind, number]), st.integers(0, 4), st.integers(0, 4)),
    st.builds(lambda number, rest: bytes([number, 0]) + rest, st.integers(0, 4), st.binary(max_size=6)),
)
BATCHES = st.builds(
    lambda items: b"\0\0\0" + b"".join(bytes([len(item) - 1]) + item[1:] for item in items),
    st.lists(CONTROL, max_size=5),
)


@given(st.lists(CONTROL | BATCHES | st.binary(max_size=30), max_size=20), st.data())
def test_any_frames_give_events_or_a_remote_error(frames: list[bytes], data: st.DataObject) -> None:
    end = End()
    end.mux.open("a", b"")
    channel = end.mux.open("b", b"i")
    with contextlib.suppress(RemoteProtocolError):
        for frame in frames:
            for event in end.receive(frame):
                if isinstance(event, RemoteOpen):
                    act: Callable[[], object] = data.draw(
                        st.sampled_from(
                            [
                                lambda event=event: end.mux.reject(event),
                                lambda event=event: end.mux.open(event.protocol, event.id),
                                lambda: None,
                            ]
                        )
                    )
                    with contextlib.suppress(LocalProtocolError):
                        act()
            if data.draw(st.booleans()):
                channel.close()


class TwoMuxes(RuleBasedStateMachine):
    """Two ends do as they like, with frames in flight; neither ever blames the other, and they agree."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (End(), End())
        self.flying: tuple[list[bytes], list[bytes]] = ([], [])  # to the left, to the right
        self.live: tuple[list[MuxChannel], list[MuxChannel]] = ([], [])

    opens = Bundle("opens")

    @rule(side=st.integers(0, 1), name=st.sampled_from([b"", b"1", b"2"]))
    def open(self, side: int, name: bytes) -> None:
        with contextlib.suppress(LocalProtocolError):
            self.live[side].append(self.ends[side].mux.open(ALPHA, name))

    @rule(side=st.integers(0, 1), data=st.data())
    def send_or_close(self, side: int, data: st.DataObject) -> None:
        if self.live[side]:
            channel = data.draw(st.sampled_from(self.live[side]))
            if data.draw(st.booleans()):
                channel.close()
                self.live[side].remove(channel)
            else:
                channel.send(0, channel.id)

    @rule(target=opens, side=st.integers(0, 1), count=st.integers(1, 4))
    def deliver(self, side: int, count: int) -> Any:
        self._collect()
        found = (side, None)
        for _ in range(min(count, len(self.flying[side]))):
            for event in self.ends[side].receive(self.flying[side].pop(0)):
                if isinstance(event, RemoteOpen):
                    found = (side, event)
                elif isinstance(event, Received):
                    assert event.payload == event.channel.id
        return found

    @rule(found=consumes(opens))
    def reject(self, found: tuple[int, RemoteOpen | None]) -> None:
        side, remote_open = found
        if remote_open is not None:
            self.ends[side].mux.reject(remote_open)

    def _collect(self) -> None:
        self.flying[1].extend(self.ends[0].take())
        self.flying[0].extend(self.ends[1].take())

    @invariant()
    def when_all_has_arrived_open_channels_are_paired(self) -> None:
        self._collect()
        if self.flying[0] or self.flying[1]:
            return
        left, right = (
            {
                (channel.id, channel.local_id, channel.remote_id)
                for channel in live
                if channel.state is ChannelState.OPEN
            }
            for live in self.live
        )
        assert left == {(name, remote, local) for name, local, remote in right}


TestTwoMuxes = TwoMuxes.TestCase
