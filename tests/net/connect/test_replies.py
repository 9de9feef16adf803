"""What a server remembers of handshakes, and what it has no room for."""

from p2prss.net.connect.replies import (
    EPHEMERAL_SECONDS,
    MAX_ATTEMPTS,
    MAX_EPHEMERALS,
    MAX_FAILURES,
    MAX_FAILURES_PER_SOURCE,
    MAX_HALF_OPEN,
    MAX_HALF_OPEN_PER_CLIENT,
    MAX_HALF_OPEN_PER_RELAY,
    Attempt,
    ReplyCache,
)


def begin(
    cache: ReplyCache, number: int, client: str = "1.2.3.4", relay: str | None = None, now: float = 0.0
) -> Attempt:
    noise = number.to_bytes(64, "big")
    return cache.begin(noise, noise[32:], client, relay, now)


def test_an_attempt_is_found_until_it_is_forgotten() -> None:
    cache = ReplyCache()
    attempt = begin(cache, 1)
    attempt.reply = b"reply"
    assert cache.get(attempt.noise) is attempt
    cache.end(attempt)
    cache.end(attempt)
    assert cache.half_open == 0
    assert cache.get(attempt.noise) is attempt
    cache.forget(attempt)
    assert cache.get(attempt.noise) is None


def test_an_ephemeral_key_is_taken_once_in_ten_minutes() -> None:
    cache = ReplyCache()
    attempt = begin(cache, 1)
    cache.forget(attempt)
    ephemeral = attempt.noise[32:]
    assert cache.is_used(ephemeral, EPHEMERAL_SECONDS - 1)
    assert not cache.is_used(ephemeral, EPHEMERAL_SECONDS)
    assert not cache.is_used(bytes(32), 0.0)
    assert cache.replayed == 1


def test_the_keys_remembered_are_bounded() -> None:
    cache = ReplyCache()
    for number in range(MAX_EPHEMERALS + 1):
        cache.forget(begin(cache, number))
    assert not cache.is_used(bytes(32), 0.0)  # the oldest made room
    assert cache.is_used((1).to_bytes(32, "big"), 0.0)


def test_half_open_attempts_are_bounded() -> None:
    """By client, by relay, and in all; one that ends makes room."""
    cache = ReplyCache()
    mine = [begin(cache, number) for number in range(MAX_HALF_OPEN_PER_CLIENT)]
    assert not cache.has_room("1.2.3.4", None, 0.0)
    assert cache.has_room("1.2.3.5", None, 0.0)
    cache.end(mine[0])
    assert cache.has_room("1.2.3.4", None, 0.0)

    cache = ReplyCache()
    for number in range(MAX_HALF_OPEN_PER_RELAY):
        begin(cache, number, client=f"1.2.{number}.4", relay="9.9.9.9")
    assert not cache.has_room("1.1.1.1", "9.9.9.9", 0.0)
    for number in range(MAX_HALF_OPEN_PER_RELAY, MAX_HALF_OPEN):
        assert cache.has_room("1.1.1.1", "8.8.8.8", 0.0)
        begin(cache, number, client=f"1.2.{number}.4", relay="8.8.8.8")
    assert not cache.has_room("1.1.1.1", "8.8.8.8", 0.0)
    assert not cache.has_room("1.1.1.1", None, 0.0)
    assert cache.refused == 3


def test_replies_kept_are_bounded() -> None:
    cache = ReplyCache()
    for number in range(MAX_ATTEMPTS):
        assert cache.has_room("1.2.3.4", None, 0.0)
        cache.end(begin(cache, number))
    assert not cache.has_room("1.2.3.4", None, 0.0)


def test_nonsense_is_read_so_many_times_a_second() -> None:
    cache = ReplyCache()
    for _ in range(MAX_FAILURES_PER_SOURCE):
        assert cache.has_room("1.2.3.4", "9.9.9.9", 0.5)
        cache.fail("9.9.9.9", 0.5)
    assert not cache.has_room("1.2.3.4", "9.9.9.9", 0.6)
    assert cache.has_room("1.2.3.4", None, 0.6)
    for number in range(MAX_FAILURES - MAX_FAILURES_PER_SOURCE):
        cache.fail(f"8.8.{number // 50}.8", 0.6)
    assert not cache.has_room("1.2.3.4", None, 0.9)
    assert cache.has_room("1.2.3.4", "9.9.9.9", 1.0)
