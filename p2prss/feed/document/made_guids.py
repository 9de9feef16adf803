"""Guids for items that bring none: stable, and one for each of them.

An item without a guid goes by the address of its enclosure, else of its page, as apps do. Feeds list
several items with one such address: episodes told on one page, a file that was published twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final

import msgspec

from p2prss.feed.model import Item

_PREFIX: Final = "urn:p2prss:item:"


def digest_guid(digest: str) -> str:
    """The guid of an item that has not even an address: it changes with its content."""
    return f"{_PREFIX}{digest}"


def full_guid(item: Item) -> str:
    """What tells an item without a guid from others of the same address: its title and date as well."""
    date = "" if item.published is None else item.published.isoformat()
    return _hashed(item.guid, item.title, date)


def _hashed(*identity: str | int) -> str:
    return digest_guid(blake2b(msgspec.json.encode(identity), digest_size=16).hexdigest())


def number_equals(items: Sequence[Item]) -> list[Item]:
    """Give items of one document that are equal, and bring no guid, guids of their own: it lists them all.

    Counted from the last, so that one more on top changes no other.
    """
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for item in reversed(items):
        if item.guid_is_made:
            key = item.guid, item.digest
            seen[key] += 1
            if (count := seen[key]) > 1:
                item = replace(item, guid=_hashed(*key, count))
        found.append(item)
    return found[::-1]


def tell_apart(items: Sequence[Item]) -> tuple[Item, ...]:
    """Give items that differ, and would have one guid because they bring none, guids of their own.

    The oldest keeps the address (of one date, or without dates, the last listed), so that a new item does
    not take it over; an item that brings the address as its guid comes before all. Source: spec/08-feeds.
    """
    holders: dict[str, Item] = {}
    for _, item in sorted(enumerate(items), key=lambda one: (*_age(one[1]), -one[0])):
        holders.setdefault(item.guid, item)
    taken: dict[str, str] = {}  # guid -> digest of who has it
    return tuple(_apart(item, holders[item.guid], taken) for item in items)


def _age(item: Item) -> tuple[bool, bool, float]:
    return item.guid_is_made, item.published is None, item.published.timestamp() if item.published else 0


def _apart(item: Item, holder: Item, taken: dict[str, str]) -> Item:
    if not item.guid_is_made or item.digest == holder.digest:
        return item
    guid = full_guid(item)
    if taken.setdefault(guid, item.digest) != item.digest:
        guid = digest_guid(item.digest)
    return replace(item, guid=guid)
