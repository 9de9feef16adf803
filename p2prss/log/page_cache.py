"""The pages of metadata that all logs of a store used last, bounded in bytes.

One cache serves a whole store, so that a thousand idle logs cost nothing and one busy log may have it all.
Pages live in two generations. A page is used in the young one; when that is half of the limit it becomes the
old one, whose unused pages go. Hits in the young one, nearly all, need no lock and no reordering.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from p2prss.units import MIB

CACHE_BYTES: Final = 24 * MIB  # about 500,000 tree nodes: those of 16 GB in 64 KiB blocks
_ENTRY_BYTES: Final = 200  # what Python adds to each page: key, links, headers

PageKey = tuple[str, int, int]  # table, id of the log, number of the page


class PageCache:
    """Recently used pages by key; safe to use from any thread.

    A reader that misses loads the page from the database while a writer may replace it. So it takes the
    ``ticket`` first, and ``offer`` keeps the page only when nothing was replaced since.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._lock = threading.Lock()
        self._limit_bytes = limit_bytes
        self._young: dict[PageKey, bytes] = {}
        self._old: dict[PageKey, bytes] = {}
        self._young_bytes = 0
        self._old_bytes = 0
        self.ticket = 0

    @property
    def used_bytes(self) -> int:
        """Memory taken, roughly."""
        return self._young_bytes + self._old_bytes

    def get(self, key: PageKey) -> bytes | None:
        """A page, or None when it is not in the cache; an absent page may be cached as ``b""``."""
        page = self._young.get(key)
        if page is None and key in self._old:
            with self._lock:
                page = self._old.get(key)
                if page is not None:
                    self._put(key, page)
        return page

    def offer(self, key: PageKey, page: bytes, ticket: int) -> None:
        """Keep a page read from the database, if it cannot be outdated."""
        with self._lock:
            if ticket == self.ticket:
                self._put(key, page)

    def replace(
        self, changed: Iterable[tuple[PageKey, bytes]], dropped: Callable[[PageKey], bool] | None = None
    ) -> None:
        """Take over what a writer has just committed; ``dropped`` says which pages are gone."""
        with self._lock:
            self.ticket += 1
            if dropped is not None:
                for key in [key for key in (*self._young, *self._old) if dropped(key)]:
                    self._discard(key)
            for key, page in changed:
                self._put(key, page)

    def _put(self, key: PageKey, page: bytes) -> None:
        self._discard(key)
        size = len(page) + _ENTRY_BYTES
        if self._young_bytes + size > self._limit_bytes // 2:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._young[key] = page
        self._young_bytes += size

    def _discard(self, key: PageKey) -> None:
        page = self._young.pop(key, None)
        if page is not None:
            self._young_bytes -= len(page) + _ENTRY_BYTES
        page = self._old.pop(key, None)
        if page is not None:
            self._old_bytes -= len(page) + _ENTRY_BYTES
