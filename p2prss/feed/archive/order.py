"""The order of items: as the origin has them, then those it dropped, newest first.

An archive lists items by path, and so by date; most feeds are written in just that order. Only an item
that stands elsewhere at the origin gets a number of its own (``ItemRecord.order``); all others have
that of their path. So a new episode on top costs no other item a new record.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import msgspec

from p2prss.feed.archive.records import MAX_ORDER, ArchivedItem
from p2prss.feed.model import Item, item_id

STEP: Final = 65536  # numbers per second of an item's date: room for others in between

_STAMP: Final = re.compile(r"/items/(\d{8}T\d{6})Z-")


def in_origin_order(items: Iterable[ArchivedItem]) -> list[ArchivedItem]:
    """Items as a feed of them lists them."""
    listed = list(items)
    there = sorted((one for one in listed if one.removed_at is None), key=_place, reverse=True)
    dropped = sorted(
        (one for one in listed if one.removed_at is not None), key=lambda one: one.path, reverse=True
    )
    return there + dropped


def with_order(
    listed: Iterable[Item],
    changed: Sequence[tuple[ArchivedItem, bytes | None]],
    known: Mapping[str, ArchivedItem],
) -> list[tuple[ArchivedItem, bytes | None]]:
    """The items to write, with their order numbers, and those that only need another number.

    Args: listed: the origin's items in its order; changed: items with their new XML, or None where only
        the record is new; known: the archive before, by item id.
    """
    now = dict(known) | {item.item_id: item for item, _ in changed}
    paths = [now[name].path for one in listed if (name := item_id(one.guid)) in now]
    before = {item.path: item.record.order for item in known.values()}
    new = order_numbers(list(dict.fromkeys(paths)), before)
    numbers = before | new
    written = {item.item_id for item, _ in changed}
    others = [(item, None) for item in known.values() if item.path in new and item.item_id not in written]
    return [(_numbered(item, numbers.get(item.path)), xml) for item, xml in [*changed, *others]]


def _numbered(item: ArchivedItem, number: int | None) -> ArchivedItem:
    record = msgspec.structs.replace(item.record, order=number)
    return ArchivedItem(item.path, item.item_id, record)


def order_numbers(paths: Sequence[str], known: Mapping[str, int | None]) -> dict[str, int]:
    """What to note so that items stand as in ``paths``, the first on top.

    Args: known: the numbers that items have already, by path.
    Returns: new numbers, by path, for as few items as will do.
    """
    places = [(_number(path, known.get(path)), path) for path in paths]
    if all(upper > lower for upper, lower in pairwise(places)):
        return {}
    kept = _longest_falling(places)
    found: dict[str, int] = {}
    for upper, lower in pairwise([-1, *kept, len(paths)]):
        between = paths[upper + 1 : lower]
        top = places[upper][0] if upper >= 0 else None
        bottom = places[lower][0] if lower < len(paths) else None
        numbers = _numbers_between(top, bottom, len(between))
        if numbers is None:  # no room left: all anew
            top = max(number for number, _ in places) + STEP
            found = dict(zip(paths, _numbers_between(top, None, len(paths)) or (), strict=False))
            break
        found.update(zip(between, numbers, strict=True))
    return {path: min(max(number, -MAX_ORDER), MAX_ORDER) for path, number in found.items()}


def _place(item: ArchivedItem) -> tuple[int, str]:
    return _number(item.path, item.record.order), item.path


def _number(path: str, noted: int | None) -> int:
    """The number of an item: higher stands above."""
    if noted is not None:
        return noted
    match = _STAMP.match(path)
    try:
        when = datetime.strptime(match[1] if match else "", "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(when.timestamp()) * STEP


def _numbers_between(top: int | None, bottom: int | None, count: int) -> Sequence[int] | None:
    """So many falling numbers, both ends excluded; None where there is no room."""
    if top is None and bottom is None:
        top = 0
    if top is None:
        return [(bottom or 0) + STEP * (count - place) for place in range(count)]
    if bottom is None:
        return [top - STEP * (place + 1) for place in range(count)]
    if top - bottom <= count:
        return None if count else []
    return [top - (top - bottom) * (place + 1) // (count + 1) for place in range(count)]


def _longest_falling(places: Sequence[tuple[int, str]]) -> list[int]:
    """The indexes of a longest falling part: what can stay as it is."""
    tails: list[tuple[int, str]] = []  # of rising parts of the reversed sequence, by length
    ends: list[int] = []
    before: dict[int, int] = {}
    for index in range(len(places) - 1, -1, -1):
        length = bisect_left(tails, places[index])
        if length == len(tails):
            tails.append(places[index])
            ends.append(index)
        else:
            tails[length], ends[length] = places[index], index
        before[index] = ends[length - 1] if length else -1
    index = ends[-1] if ends else -1
    found = []
    while index >= 0:
        found.append(index)
        index = before[index]
    return found
