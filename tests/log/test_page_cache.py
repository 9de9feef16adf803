"""The cache is bounded, keeps what is used, and never shows a page that was replaced."""

import random
from functools import partial

from p2prss.log.page_cache import PageCache, PageKey
from p2prss.units import KIB


def key(number: int, table: str = "node_page", core_id: int = 1) -> PageKey:
    return (table, core_id, number)


def is_page(number: int, page: PageKey) -> bool:
    return page[2] == number


def test_memory_stays_bounded_and_used_pages_stay() -> None:
    cache = PageCache(limit_bytes=64 * KIB)
    for number in range(1000):
        cache.offer(key(number), bytes(KIB), cache.ticket)
        assert cache.get(key(0)) is not None
        assert cache.used_bytes <= 64 * KIB
    assert cache.get(key(999)) is not None
    assert cache.get(key(500)) is None


def test_a_page_read_before_a_commit_is_not_kept_after_it() -> None:
    cache = PageCache()
    ticket = cache.ticket
    cache.replace([(key(1), b"new")])
    cache.offer(key(1), b"old", ticket)
    cache.offer(key(2), b"old", ticket)
    assert cache.get(key(1)) == b"new"
    assert cache.get(key(2)) is None


def test_dropped_pages_are_gone_from_both_generations() -> None:
    cache = PageCache(limit_bytes=8 * KIB)
    for number in range(8):
        cache.offer(key(number), bytes(KIB), cache.ticket)
    cache.replace([(key(3), b"anew")], lambda page: page[2] >= 2)
    assert [number for number in range(8) if cache.get(key(number))] == [
        number for number in (0, 1, 3) if cache.get(key(number))
    ]
    assert cache.get(key(3)) == b"anew"


def test_the_bytes_used_are_those_of_the_pages() -> None:
    cache = PageCache(limit_bytes=32 * KIB)
    choices = random.Random(5)
    for _ in range(2000):
        number = choices.randrange(50)
        step = choices.randrange(4)
        if step == 0:
            cache.get(key(number))
        elif step == 1:
            cache.replace([(key(number), bytes(choices.randrange(3000)))])
        elif step == 2:
            cache.offer(key(number), bytes(choices.randrange(3000)), cache.ticket)
        else:
            cache.replace((), partial(is_page, number))
        pages = {**cache._old, **cache._young}
        assert len(pages) == len(cache._old) + len(cache._young)
        assert cache.used_bytes == sum(len(page) + 200 for page in pages.values()) <= 32 * KIB
