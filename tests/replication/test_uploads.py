"""How much is on its way out to a peer: what its link carries in a moment."""

from p2prss.replication.limits import MIN_UPLOAD_QUEUE, Limits
from p2prss.replication.upload_queue import UploadQueue
from p2prss.units import KIB, MIB

LIMITS = Limits()


def room(queue: UploadQueue) -> int:
    """Bytes that may be on their way out, to 64 KiB."""
    waiting, queue.queued_bytes = queue.queued_bytes, 64 * KIB
    steps = range(64 * KIB, 8 * MIB, 64 * KIB)
    found = max((step for step in steps if queue.has_room(step)), default=0) + 64 * KIB
    queue.queued_bytes = waiting
    return found


def carry(queue: UploadQueue, rate: float, seconds: float, start: float, piece: int = 128 * KIB) -> float:
    """Keep a link of that many bytes a second busy; returns the time behind it."""
    now = start
    queue.set_queued(room(queue), now)
    while now < start + seconds:
        now += piece / rate
        queue.set_queued((queue.queued_bytes or 0) - piece, now)
        queue.set_queued(room(queue), now)
    now += (queue.queued_bytes or 0) / rate
    queue.set_queued(0, now)
    return now


def test_a_slow_link_gets_its_answers_bit_by_bit_and_a_fast_one_at_once() -> None:
    queue = UploadQueue(LIMITS)
    assert room(queue) == LIMITS.queued_bytes
    now = carry(queue, 1e6, 5, 0)
    assert room(queue) == MIN_UPLOAD_QUEUE
    now = carry(queue, 10 * MIB, 5, now)
    assert 0.5 * MIB < room(queue) <= 1 * MIB
    now = carry(queue, 1000 * MIB, 1, now)
    assert room(queue) == LIMITS.queued_bytes


def test_a_fast_link_is_found_to_be_so_by_short_answers_too() -> None:
    queue = UploadQueue(LIMITS)
    now = carry(queue, 1e6, 5, 0)
    for _ in range(20):  # a window at a time, with a pause behind each
        now += 1
        most = room(queue)
        queue.set_queued(most, now)
        queue.set_queued(0, now + 0.002)
    assert room(queue) == LIMITS.queued_bytes


def test_a_pause_is_no_slowness() -> None:
    queue = UploadQueue(LIMITS)
    now = carry(queue, 1000 * MIB, 1, 0)
    for _ in range(10):
        now += 100
        queue.set_queued(512 * KIB, now)
        queue.set_queued(0, now + 0.001)
    assert room(queue) == LIMITS.queued_bytes
