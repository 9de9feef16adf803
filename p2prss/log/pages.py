"""Pages of fixed slots: how tree nodes and extents are packed into rows of the database.

A row per node would cost more time and room than the node. So 101 neighbouring nodes, or the extents of 330
neighbouring blocks, share a row: one lookup brings the neighbours that are asked for next, and a batch of
blocks changes few rows. These numbers fill one page of the database (at most 4061 bytes of row fit in 4 KiB),
which writes a third less than other sizes did. A slot of zeros is empty: no hash, no stored offset is zero.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

PAGE_BITS: Final = 40  # of a row number; the other 23 are the log's id
MAX_CORE_ID: Final = 2**23 - 2


@dataclass(frozen=True, slots=True)
class PageLayout:
    """How one table packs its slots."""

    table: str
    slot: Struct
    slots: int  # per page

    @property
    def page_bytes(self) -> int:
        """Size of a full page."""
        return self.slot.size * self.slots

    def unpack(self, page: bytes | bytearray, position: int) -> Any:
        """The values of one slot, by its number in the whole table."""
        return self.slot.unpack_from(page, position % self.slots * self.slot.size)


NODE_PAGES: Final = PageLayout("node_page", Struct("<Q32s"), 101)  # size, hash
EXTENT_PAGES: Final = PageLayout("extent_page", Struct("<QI"), 330)  # file offset + 1, length


def row_number(core_id: int, page_number: int) -> int:
    """The row of a page: all pages of a log are neighbours, in their order."""
    return core_id << PAGE_BITS | page_number


class PageEditor:
    """Copies of the pages that a change touches; the database sees them when the change is complete."""

    def __init__(self, layout: PageLayout, load: Callable[[int], bytes]) -> None:
        self.layout = layout
        self.dropped_from: int | None = None  # pages from this number on are to be deleted
        self._load = load
        self._pages: dict[int, bytearray] = {}

    @property
    def pages(self) -> Iterator[tuple[int, bytes]]:
        """The changed pages: number, bytes."""
        return ((number, bytes(page)) for number, page in self._pages.items())

    def fill(self, slots: Iterable[tuple[Any, ...]]) -> None:
        """Fill slots: each its position and its values."""
        pack_into, size, count = self.layout.slot.pack_into, self.layout.slot.size, self.layout.slots
        last, page = -1, bytearray()
        for position, *values in slots:
            number = position // count
            if number != last:
                last, page = number, self._page(number)
            pack_into(page, position % count * size, *values)

    def get(self, position: int) -> Any:
        """The values of one slot, changes included."""
        return self.layout.unpack(self._page(position // self.layout.slots), position)

    def erase(self, start: int, stop: int) -> None:
        """Empty the slots ``[start, stop)``."""
        slots, size = self.layout.slots, self.layout.slot.size
        while start < stop:
            number, first = divmod(start, slots)
            count = min(stop - start, slots - first)
            if number in self._pages or self._load(number):
                self._page(number)[first * size : (first + count) * size] = bytes(count * size)
            start += count

    def drop(self, start: int) -> None:
        """Empty all slots from ``start`` on."""
        number, first = divmod(start, self.layout.slots)
        if first:
            self.erase(start, (number + 1) * self.layout.slots)
            number += 1
        self.dropped_from = number
        for later in [later for later in self._pages if later >= number]:
            del self._pages[later]

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            gone = self.dropped_from is not None and number >= self.dropped_from
            stored = b"" if gone else self._load(number)
            page = self._pages[number] = bytearray(stored or bytes(self.layout.page_bytes))
        return page
