"""Habits of the JavaScript reference that only show in long sessions with it, replayed message by message."""

from math import inf
from random import Random

from p2prss.log.log import Log
from p2prss.log.store import Store
from p2prss.replication.events import Drop, Send
from p2prss.replication.limits import MESSAGE_BURST, WANT_BLOCKS
from p2prss.replication.replicator import Replicator
from p2prss.wire.messages import Message, Range, Sync, Unwant, Want
from tests.fakes.replication_network import blocks_of, copy_of, written

_PEER = 1


def replicator_of(log: Log) -> Replicator:
    replicator = Replicator(log, random=Random(1))
    replicator.add_peer(_PEER, 0.0)
    return replicator


def told_later(replicator: Replicator, seconds: float, *, start: float) -> list[tuple[float, Message]]:
    """What we say from ourselves in that time, and when; the clock stands at ``start``."""
    replicator.events()
    told = []
    while (now := replicator.deadline) <= start + seconds:
        replicator.handle_timer(now)
        told += [(now - start, event.message) for event in replicator.events() if isinstance(event, Send)]
    return told


def replies(replicator: Replicator, *messages: Message) -> list[Message]:
    """What we send in answer to messages that arrive together."""
    replicator.events()
    for message in messages:
        replicator.receive(_PEER, message, 0.0)
    return [event.message for event in replicator.events() if isinstance(event, Send)]


def test_who_wants_the_same_again_and_again_is_answered_once() -> None:
    """A seek of the reference that nobody can end repeats its want at every answer, without a pause."""
    log = written(60)
    replicator = replicator_of(log)
    want = Want(0, WANT_BLOCKS)
    assert replies(replicator, want) == [Range(0, 60)]
    for _ in range(3):
        assert replies(replicator, Unwant(0, WANT_BLOCKS), want) == []
    log.clear(10, 20)
    replicator.core_changed(0.0)
    assert replies(replicator, Unwant(0, WANT_BLOCKS), want) != []
    assert replies(replicator, Unwant(0, WANT_BLOCKS), want) == []
    log.append(blocks_of(1))
    replicator.core_changed(0.0)
    assert replies(replicator, want) != []
    for _ in range(int(MESSAGE_BURST)):
        replicator.receive(_PEER, Want(0, WANT_BLOCKS), 0.0)
        replicator.receive(_PEER, Unwant(0, WANT_BLOCKS), 0.0)
    assert any(isinstance(event, Drop) for event in replicator.events())  # it is no free ride


def test_a_peer_that_could_not_prove_its_length_is_reminded_when_it_gets_blocks() -> None:
    """The reference looks whether it can prove its length to us only when it hears from us, or gets blocks
    from us; blocks that others brought it do not make it tell."""
    writer = written(1)
    reader = copy_of(writer, [0])
    writer.append(blocks_of(3))
    replicator = replicator_of(reader)
    ours = Sync(0, 1, 4, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    behind = Sync(0, 4, 0, can_upgrade=True, uploading=True, downloading=True, has_manifest=True)
    assert replies(replicator, behind) == []
    assert replies(replicator, Range(3, 1), Range(2, 1)) == [ours]
    assert replies(replicator, Range(0, 4)) == [ours]
    able = Sync(0, 4, 1, can_upgrade=True, uploading=True, downloading=True, has_manifest=True)
    (request,) = replies(replicator, able)
    assert replies(replicator, Range(0, 4)) == [], request


def test_a_peer_that_kept_a_longer_log_to_itself_is_reminded() -> None:
    """After a new fork the reference does not tell its length to whom it can't prove it."""
    replicator = replicator_of(copy_of(written(2), [0]))
    ours = Sync(0, 2, 0, can_upgrade=True, uploading=True, downloading=True, has_manifest=True)
    empty = Sync(0, 0, 0, can_upgrade=True, uploading=True, downloading=True, has_manifest=False)
    longer = Sync(0, 7, 2, can_upgrade=True, uploading=True, downloading=True, has_manifest=True)
    assert replies(replicator, empty) == [ours]
    assert replies(replicator, Range(6, 1)) == [ours]
    assert ours not in replies(replicator, Range(0, 7), longer)  # nothing to remind it of


def test_nobody_is_reminded_without_need() -> None:
    replicator = replicator_of(Store.in_memory().create("log"))
    unable = Sync(0, 4, 0, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    assert replies(replicator, Range(0, 4)) == []
    replies(replicator, unable)
    other_fork = Sync(1, 4, 0, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    replies(replicator, other_fork)
    assert Sync not in map(type, replies(replicator, Range(0, 4)))


def test_who_may_wait_for_somebody_else_hears_of_us_again() -> None:
    """The reference asks a second peer for a block only when it hears something from that one."""
    replicator = replicator_of(written(8))
    ours = Sync(0, 8, 8, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    theirs = Sync(0, 8, 8, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    assert replies(replicator, theirs) == []
    reminders = [seconds for seconds, message in told_later(replicator, 1000, start=0.0) if message == ours]
    assert reminders == [1, 3, 7, 15, 31, 63, 127]
    assert replicator.deadline == inf

    replicator.receive(_PEER, theirs, 200.0)  # nothing new: perhaps a reminder of its own
    assert told_later(replicator, 1000, start=200.0) == []
    replicator.receive(_PEER, Range(0, 3), 300.0)
    assert told_later(replicator, 1000, start=300.0)[:2] == [(1, ours), (3, ours)]
    replicator.receive(_PEER, Range(0, 8), 2000.0)  # it is whole
    assert told_later(replicator, 1000, start=2000.0) == []


def test_nobody_is_reminded_of_what_we_have_not_or_it_does_not_want() -> None:
    downloading = Sync(0, 8, 8, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    idle = Sync(0, 8, 8, can_upgrade=False, uploading=True, downloading=False, has_manifest=True)
    other_fork = Sync(1, 8, 8, can_upgrade=False, uploading=True, downloading=True, has_manifest=True)
    for log, sync in (
        (copy_of(written(8), []), downloading),
        (written(8), idle),
        (copy_of(written(8), [1]), other_fork),
    ):
        replicator = replicator_of(log)
        replies(replicator, sync, Range(0, 2))
        assert [one for _, one in told_later(replicator, 100, start=0.0) if isinstance(one, Sync)] == []
