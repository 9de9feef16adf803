"""Bitfield: which blocks are held, sparse and in pages.

Bit i of page p is block ``32768 * p + i``; it is bit ``i & 7`` of byte ``i >> 3``. The same bytes, read
as u32 little-endian words are what travels in a ``Bitfield`` message. An absent page is all zeros. Stretches
of whole set pages are kept as their boundaries, so that a peer's claim to hold 2^50 blocks takes no memory;
memory is one page per 32768 blocks of which only some are set.
Source: hypercore lib/bitfield.js; spec/03-log.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

from p2prss.crypto.hashes import Buffer

PAGE_BITS: Final = 32768  # blocks
PAGE_BYTES: Final = PAGE_BITS // 8
WORD_BITS: Final = 32

_SHIFT: Final = PAGE_BITS.bit_length() - 1
_MASK: Final = PAGE_BITS - 1
_WORD_BYTES: Final = WORD_BITS // 8
_FULL: Final = b"\xff" * PAGE_BYTES
_EMPTY: Final = bytes(PAGE_BYTES)


class Bitfield:
    """A set of block indexes; ranges are half open, ``[start, stop)``.

    With ``tracked``, the pages that change are noted for ``take_changed``.
    """

    __slots__ = ("_changed", "_full", "_numbers", "_pages", "_tracked")

    def __init__(self, *, tracked: bool = False) -> None:
        self._pages: dict[int, bytearray] = {}  # those neither empty nor in a full stretch
        self._numbers: list[int] = []  # of these pages, sorted
        self._full: list[int] = []  # page numbers where full stretches start and stop, in turn
        self._changed: set[int] = set()
        self._tracked = tracked

    def copy(self) -> "Bitfield":
        """An independent copy; no page counts as changed."""
        other = Bitfield(tracked=self._tracked)
        other._pages = {number: page[:] for number, page in list(self._pages.items())}
        other._numbers = self._numbers[:]
        other._full = self._full[:]
        return other

    # Pages and words: storage and wire

    def load_page(self, number: int, data: Buffer) -> None:
        """Put a stored page in place; zeros at its end may be missing. It does not count as changed.

        Raises: ValueError when it is longer than a page.
        """
        if len(data) > PAGE_BYTES:
            raise ValueError(f"a page has {PAGE_BYTES} bytes, not {len(data)}")
        self._put(number, bytearray(bytes(data).ljust(PAGE_BYTES, b"\x00")))

    def page(self, number: int) -> bytes:
        """The 4096 bytes of a page."""
        page = self._pages.get(number)
        if page is not None:
            return bytes(page)
        return _FULL if self._is_full(number) else _EMPTY

    def changed_pages(self, added: list[range], removed: list[range]) -> dict[int, bytes]:
        """The pages that adding and removing blocks changes, as they will be; zeros at the end left out."""
        after = Bitfield()
        numbers = sorted(
            {
                number
                for run in (*removed, *added)
                for number in range(run.start // PAGE_BITS, (run.stop - 1) // PAGE_BITS + 1)
            }
        )
        for number in numbers:
            after.load_page(number, self.page(number))
        for run in removed:
            after.unset_range(run.start, run.stop)
        for run in added:
            after.set_range(run.start, run.stop)
        return {number: after.page(number).rstrip(b"\x00") for number in numbers}

    def take_changed(self) -> dict[int, bytes]:
        """The pages changed since the last call, by number: what storage has to write."""
        changed = {number: self.page(number) for number in sorted(self._changed)}
        self._changed.clear()
        return changed

    def words(self, start: int, count: int) -> bytes:
        """The bits of ``count`` words (of 32 blocks each) from block ``start`` on, as they travel.

        Raises: ValueError when ``start`` is no multiple of 32.
        """
        pieces = []
        for number, low, high in _byte_spans(start, count * _WORD_BYTES):
            pieces.append(self.page(number)[low:high])
        return b"".join(pieces)

    def set_words(self, start: int, words: Buffer) -> None:
        """Make the blocks from ``start`` on what ``words`` says, set or not.

        Raises: ValueError when ``start`` is no multiple of 32.
        """
        taken = 0
        for number, low, high in _byte_spans(start, len(words)):
            page = bytearray(self.page(number))
            page[low:high] = words[taken : taken + high - low]
            taken += high - low
            self._put(number, page)
            self._note(number)

    # Single blocks

    def has(self, index: int) -> bool:
        """Whether a block is in the set."""
        page = self._pages.get(index >> _SHIFT)
        if page is not None:
            return bool(page[(index & _MASK) >> 3] >> (index & 7) & 1)
        return bool(self._full) and self._is_full(index >> _SHIFT)

    def set(self, index: int) -> None:
        """Add one block."""
        page = self._pages.get(index >> _SHIFT)
        if page is None:
            self._fill_page(index >> _SHIFT, index & _MASK, (index & _MASK) + 1, True)
        else:
            page[(index & _MASK) >> 3] |= 1 << (index & 7)
            self._note(index >> _SHIFT)

    def unset(self, index: int) -> None:
        """Remove one block."""
        self.unset_range(index, index + 1)

    # Ranges

    def set_range(self, start: int, stop: int) -> None:
        """Add all blocks of a range."""
        self._fill(start, stop, True)

    def unset_range(self, start: int, stop: int) -> None:
        """Remove all blocks of a range."""
        self._fill(start, stop, False)

    def any_set(self, start: int, stop: int) -> bool:
        """Whether at least one block of the range is in the set."""
        first = self.first_set(start)
        return first is not None and first < stop

    def all_set(self, start: int, stop: int) -> bool:
        """Whether every block of the range is in the set; true for an empty range."""
        return start >= stop or self.first_unset(start) >= stop

    def count(self, start: int, stop: int) -> int:
        """How many blocks of the range are in the set."""
        if start >= stop:
            return 0
        total = 0
        lowest = bisect_left(self._numbers, start >> _SHIFT)
        highest = bisect_right(self._numbers, (stop - 1) >> _SHIFT)
        for number in self._numbers[lowest:highest]:
            base = number << _SHIFT
            low, high = max(start - base, 0), min(stop - base, PAGE_BITS)
            bits = int.from_bytes(self._pages[number][low >> 3 : (high + 7) >> 3], "little") >> (low & 7)
            total += (bits & ((1 << (high - low)) - 1)).bit_count()
        for begin, end in zip(self._full[::2], self._full[1::2], strict=True):
            total += max(0, min(stop, end << _SHIFT) - max(start, begin << _SHIFT))
        return total

    def runs(self, start: int, stop: int) -> Iterator[range]:
        """The stretches of set blocks inside a range, in order."""
        index = self.first_set(start)
        while index is not None and index < stop:
            end = self.first_unset(index)
            yield range(index, min(end, stop))
            index = self.first_set(end)

    # Searching

    def first_unset(self, start: int = 0) -> int:
        """The first block from ``start`` on that is not in the set."""
        while True:
            number, low = start >> _SHIFT, start & _MASK
            page = self._pages.get(number)
            if page is None:
                boundary = bisect_right(self._full, number)
                if not boundary & 1:
                    return start
                start = self._full[boundary] << _SHIFT
                continue
            if not page[low >> 3] >> (low & 7) & 1:  # often so; then there is no need to read on
                return start
            bits = int.from_bytes(page[low >> 3 :], "little") >> (low & 7)
            run = (~bits & (bits + 1)).bit_length() - 1
            if low + run < PAGE_BITS:
                return start + run
            start = (number + 1) << _SHIFT

    def first_set(self, start: int = 0) -> int | None:
        """The first block from ``start`` on that is in the set."""
        number, low = start >> _SHIFT, start & _MASK
        page = self._pages.get(number)
        if page is not None:
            bits = int.from_bytes(page[low >> 3 :], "little") >> (low & 7)
            if bits:
                return start + _lowest_bit(bits)
        elif self._is_full(number):
            return start
        later = bisect_right(self._numbers, number)
        boundary = bisect_right(self._full, number)
        found = []
        if later < len(self._numbers):
            number = self._numbers[later]
            found.append((number << _SHIFT) + _lowest_bit(int.from_bytes(self._pages[number], "little")))
        if boundary < len(self._full):
            found.append(self._full[boundary] << _SHIFT)
        return min(found, default=None)

    def last_set(self) -> int | None:
        """The last block in the set."""
        found = []
        if self._numbers:
            number = self._numbers[-1]
            found.append((number << _SHIFT) + int.from_bytes(self._pages[number], "little").bit_length() - 1)
        if self._full:
            found.append((self._full[-1] << _SHIFT) - 1)
        return max(found, default=None)

    # How the pages are kept. A page is in ``_pages``, or inside a full stretch, or empty and nowhere.

    def _is_full(self, number: int) -> bool:
        return bool(bisect_right(self._full, number) & 1)

    def _note(self, number: int) -> None:
        if self._tracked:
            self._changed.add(number)

    def _fill(self, start: int, stop: int, value: bool) -> None:
        if start >= stop:
            return
        first, last = start >> _SHIFT, (stop - 1) >> _SHIFT
        if first == last:
            self._fill_page(first, start & _MASK, ((stop - 1) & _MASK) + 1, value)
            return
        if start & _MASK:
            self._fill_page(first, start & _MASK, PAGE_BITS, value)
            first += 1
        if stop & _MASK:
            self._fill_page(last, 0, stop & _MASK, value)
            last -= 1
        if first <= last:
            self._fill_stretch(first, last + 1, value)
            if self._tracked:
                self._changed.update(range(first, last + 1))

    def _fill_page(self, number: int, low: int, high: int, value: bool) -> None:
        page = self._pages.get(number)
        if page is None:
            if self._is_full(number) == value:
                return
            page = bytearray(_EMPTY if value else _FULL)
            self._fill_stretch(number, number + 1, False)
            self._pages[number] = page
            insort(self._numbers, number)
        first, last = low >> 3, (high - 1) >> 3
        head, tail = 0xFF << (low & 7) & 0xFF, 0xFF >> (7 - ((high - 1) & 7))
        if first == last:
            head &= tail
            tail = head
        if value:
            page[first] |= head
            page[last] |= tail
        else:
            page[first] &= ~head
            page[last] &= ~tail
        page[first + 1 : last] = (b"\xff" if value else b"\x00") * (last - first - 1)
        if page == (_FULL if value else _EMPTY):
            self._fill_stretch(number, number + 1, value)
        self._note(number)

    def _put(self, number: int, page: bytearray) -> None:
        self._fill_stretch(number, number + 1, page == _FULL)
        if page not in (_FULL, _EMPTY):
            self._pages[number] = page
            insort(self._numbers, number)

    def _fill_stretch(self, first: int, stop: int, value: bool) -> None:
        """Make whole pages full or empty.

        The boundaries move before the pages go: another thread that reads meanwhile sees a page either way.
        """
        low, high = bisect_left(self._numbers, first), bisect_left(self._numbers, stop)
        # A boundary is wanted at each end where the neighbouring page has the other value.
        left, right = bisect_left(self._full, first), bisect_right(self._full, stop)
        boundaries = [first] if bool(left & 1) != value else []
        if bool(right & 1) != value:
            boundaries.append(stop)
        self._full[left:right] = boundaries
        for number in self._numbers[low:high]:
            del self._pages[number]
        del self._numbers[low:high]


def _lowest_bit(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _byte_spans(start: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Page number, first byte and end byte of each page that ``size`` bytes from block ``start`` on touch."""
    if start % WORD_BITS:
        raise ValueError(f"block {start} does not begin a word")
    position, end = start // 8, start // 8 + size
    while position < end:
        number, low = divmod(position, PAGE_BYTES)
        high = min(PAGE_BYTES, low + end - position)
        yield number, low, high
        position += high - low
