"""What peers are told, and what is remembered of what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.log.bitfield import Bitfield
from p2prss.replication.announcing import Interests, want_reply
from p2prss.replication.holdings import Holdings
from p2prss.replication.limits import MAX_REMOTE_WANTS, WANT_BLOCKS
from p2prss.wire.messages import BitfieldMessage, Range, Unwant, Want


def bitfield(*indexes: int) -> Bitfield:
    held = Bitfield()
    for index in indexes:
        held.set(index)
    return held


@pytest.mark.parametrize(
    ("want", "held", "reply"),
    [
        (Want(0, WANT_BLOCKS), bitfield(0, 1, 2, 3, 4, 5), Range(0, 6)),  # all of it
        (Want(0, 32), bitfield(), None),
        (Want(64, 32), bitfield(0), None),  # beyond the log
        (Want(0, WANT_BLOCKS), bitfield(0, 4), BitfieldMessage(0, b"\x11\x00\x00\x00")),  # the reference's
        (Want(0, WANT_BLOCKS, any=True), bitfield(4), Range(4, 1)),
    ],
)
def test_replies_to_a_want(want: Want, held: Bitfield, reply: Range | BitfieldMessage | None) -> None:
    assert want_reply(want, held, held.first_unset(), 6) == reply


@pytest.mark.parametrize("start", [32, 64, 70])
def test_a_reply_to_a_want_clears_what_the_peer_still_believes(start: int) -> None:
    stale = Holdings()
    stale.add(0, 200, 1000)
    stale.drop(10, 11, 1000)
    reply = want_reply(Want(start, 96), bitfield(100, 130), 0, 200)
    assert isinstance(reply, BitfieldMessage)
    stale.overwrite(reply.start, reply.words, 1000)
    assert [index for index in range(start, start + 96) if stale.has(index)] == [
        index for index in (100, 130) if index < start + 96
    ]


def test_new_blocks_are_announced_where_they_are_wanted() -> None:
    interests = Interests()
    assert not interests.covers(10, 20, 10_000)
    assert interests.covers(9_900, 9_901, 10_000)  # near the tip: always
    interests.add(Want(0, 32))
    assert interests.covers(10, 20, 10_000)
    assert not interests.covers(32, 40, 10_000)
    interests.remove(Unwant(0, 32))
    assert not interests.covers(10, 20, 10_000)


@pytest.mark.parametrize("want", [Want(0, 33), Want(16, 32), Want(0, 1), Want(5, 0)])
def test_an_odd_want_means_everything(want: Want) -> None:
    interests = Interests()
    assert interests.add(want)
    assert interests.covers(5_000, 5_001, 10_000)


def test_wants_cost_a_bounded_room() -> None:
    interests = Interests()
    assert not interests.add(Want(0, 2 * WANT_BLOCKS))
    assert not interests.covers(0, 1, 10_000)
    for number in range(2 * MAX_REMOTE_WANTS):
        interests.add(Want(32 * number, 32))
    assert len(interests._stretches) == MAX_REMOTE_WANTS


BOUND = 256
spans = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted)
steps = st.lists(
    st.tuples(st.sampled_from(["add", "drop"]), spans)
    | st.tuples(st.just("words"), st.tuples(st.integers(0, 7), st.binary(min_size=4, max_size=4)))
)


@given(steps)
def test_holdings_are_a_set_of_blocks(script: list[tuple[str, tuple[int, int]]]) -> None:
    holdings, model = Holdings(), set[int]()
    for action, (first, second) in script:
        if action == "add":
            holdings.add(first, second, BOUND)
            model |= set(range(first, second))
        elif action == "drop":
            holdings.drop(first, second, BOUND)
            model -= set(range(first, second))
        else:
            holdings.overwrite(32 * first, second, BOUND)
            bits = int.from_bytes(second, "little")
            for bit in range(32):
                (model.add if bits >> bit & 1 else model.discard)(32 * first + bit)
    kept = [index for index in range(BOUND) if index in model]
    assert [index for index in range(BOUND) if holdings.has(index)] == kept
    for start in (0, 64, 224):
        assert holdings.word(start, 32) == sum(1 << i - start for i in kept if start <= i < start + 32)
        later = [index for index in kept if index >= start]
        first_held = holdings.first(start)
        assert (first_held if first_held is not None and first_held < BOUND else None) == min(
            later, default=None
        )


def test_a_claim_to_hold_everything_costs_nothing() -> None:
    holdings = Holdings()
    holdings.add(0, 2**53 - 1, 2**21)
    holdings.drop(7, 2**52, 2**21)
    holdings.add(2**30, 2**52, 2**21)
    assert holdings.contiguous == 7
    assert not holdings.has(2**31)
