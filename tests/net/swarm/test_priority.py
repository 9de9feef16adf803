"""Who is dialled first, and which of two connections stays: as the reference decides."""

from collections.abc import Callable
from random import Random
from typing import Any

from p2prss.crypto.keys import PublicKey
from p2prss.net.swarm.priority import keep_new, retry_pause, turn

Vectors = Callable[[str], dict[str, Any]]


def test_turns_match_the_reference(vectors: Vectors) -> None:
    for case in vectors("dht")["swarm_priority"]:
        priority, attempts = turn(case["attempts"], explicit=case["explicit"])
        assert (priority is not None, priority, attempts) == (
            case["queue"],
            case["priority"],
            case["attempts_after"],
        )


def test_the_kept_connection_matches_the_reference(vectors: Vectors) -> None:
    for case in vectors("dht")["swarm_dedup"]:
        kept = keep_new(
            PublicKey(bytes.fromhex(case["local"])),
            PublicKey(bytes.fromhex(case["remote"])),
            new_is_initiator=case["new_is_initiator"],
            existing_has_worked=case["existing_moved_bytes_both_ways"],
        )
        assert kept == case["keep_new"], case


def test_both_sides_keep_the_same_connection() -> None:
    low, high = PublicKey(b"\1" * 32), PublicKey(b"\2" * 32)
    for dialled_by_high in (False, True):
        assert keep_new(high, low, new_is_initiator=dialled_by_high, existing_has_worked=False) == keep_new(
            low, high, new_is_initiator=not dialled_by_high, existing_has_worked=False
        )


def test_pauses_grow_and_end() -> None:
    random = Random(1)
    for proven, bounds in (
        (True, [(1, 2), (5, 6.5), (15, 17.5)]),
        (False, [(5, 6.5), (15, 17.5), (15, 17.5)]),
    ):
        for attempts, (least, most) in enumerate(bounds, start=1):
            pause = retry_pause(attempts, random, proven=proven, explicit=False)
            assert pause is not None
            assert least <= pause <= most
        assert retry_pause(4, random, proven=proven, explicit=False) is None
        pause = retry_pause(4, random, proven=proven, explicit=True)
        assert pause is not None
        assert 600 <= pause <= 720
