"""The pages of metadata that all logs of a store used last, bounded in bytes.

One cache serves a whole store, so that a thousand idle logs cost nothing and one busy log may have it all.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from p2prss.units import MIB

CACHE_BYTES: Final = 24 * MIB  # about 600,000 tree nodes: those of 20 GB in 64 KiB blocks
_ENTRY_BYTES: Final = 200  # what Python adds to each page: key, links, headers


class PageKey(NamedTuple):
    """Which page: of which table, of which log, which one."""

    table: str
    core_id: int
    number: int


class PageCache:
    """Least recently used pages by key; safe to use from any thread.

    A reader that misses loads the page from the database while a writer may replace it. So it takes a
    ``ticket`` first, and ``offer`` keeps the page only when nothing was put or dropped since.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._lock = threading.Lock()
        self._limit_bytes = limit_bytes
        self._pages: OrderedDict[PageKey, bytes] = OrderedDict()
        self._used_bytes = 0
        self.ticket = 0

    @property
    def used_bytes(self) -> int:
        """Memory taken, roughly."""
        return self._used_bytes

    def get(self, key: PageKey) -> bytes | None:
        """A page, or None when it is not in the cache; an absent page may be cached as ``b""``."""
        with self._lock:
            page = self._pages.get(key)
            if page is not None:
                self._pages.move_to_end(key)
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
            for key in [key for key in self._pages if dropped(key)] if dropped else ():
                self._discard(key)
            for key, page in changed:
                self._put(key, page)

    def _put(self, key: PageKey, page: bytes) -> None:
        self._discard(key)
        self._pages[key] = page
        self._used_bytes += len(page) + _ENTRY_BYTES
        while self._used_bytes > self._limit_bytes:
            _, oldest = self._pages.popitem(last=False)
            self._used_bytes -= len(oldest) + _ENTRY_BYTES

    def _discard(self, key: PageKey) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._used_bytes -= len(page) + _ENTRY_BYTES
