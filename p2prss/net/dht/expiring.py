"""A map for what strangers want kept: entries expire, count and bytes are capped, and no host crowds out all.

When it is full, the oldest entry of the host that stored most gives way: a flood evicts itself, and what a
few others stored stays.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FEW: Final = 8  # entries that do not make a host a flooder
_TRUST: Final = 256  # evictions until hosts are counted again


class _Entry(NamedTuple, Generic[V]):
    value: V
    host: str
    size: int  # bytes
    expires_at: float


class ExpiringMap(Generic[K, V]):
    """Entries of one lifetime, oldest first.

    Args: lifetime: seconds; max_entries, max_bytes: in total; max_per_host: entries one host may have stored.
    """

    def __init__(
        self, lifetime: float, *, max_entries: int, max_per_host: int, max_bytes: int | None = None
    ) -> None:
        self._lifetime = lifetime
        self._max_entries, self._max_per_host, self._max_bytes = max_entries, max_per_host, max_bytes
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._per_host: dict[str, OrderedDict[K, None]] = {}
        self._heaviest: str | None = None  # host to evict from, of the last count
        self._recount_in = 0  # evictions
        self.bytes = 0
        self.evicted: list[K] = []  # since the owner last looked: expired or pushed out

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        entry = self._entries.get(key)
        return entry.value if entry is not None and entry.expires_at > now else None

    def put(self, key: K, value: V, host: str, now: float, *, size: int = 0) -> None:
        """Store or renew; what was stored under the key before is gone."""
        self.pop(key)
        self.expire(now)
        mine = self._per_host.setdefault(host, OrderedDict())
        if len(mine) >= self._max_per_host:
            self._evict(next(iter(mine)))
        while self._entries and self._is_full(size):
            self._evict(self._victim())
        self._entries[key] = _Entry(value, host, size, now + self._lifetime)
        self._per_host.setdefault(host, OrderedDict())[key] = None
        self.bytes += size

    def pop(self, key: K) -> V | None:
        """Remove without counting it as evicted."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.bytes -= entry.size
        mine = self._per_host[entry.host]
        del mine[key]
        if not mine:
            del self._per_host[entry.host]
        return entry.value

    def expire(self, now: float) -> None:
        """Drop what is too old."""
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.expires_at > now:
                return
            self._evict(key)

    def _is_full(self, size: int) -> bool:
        if len(self._entries) >= self._max_entries:
            return True
        return self._max_bytes is not None and self.bytes + size > self._max_bytes

    def _victim(self) -> K:
        """The oldest entry of the heaviest host; hosts are counted once for many evictions."""
        mine = self._per_host.get(self._heaviest) if self._heaviest is not None else None
        if self._recount_in <= 0 or (self._heaviest is not None and not mine):
            self._heaviest, mine = max(self._per_host.items(), key=lambda item: len(item[1]))
            self._recount_in = min(_TRUST, len(mine) // 4)
            if len(mine) < _FEW:  # nobody floods: the oldest of all goes
                self._heaviest, self._recount_in = None, _TRUST
        self._recount_in -= 1
        return next(iter(mine if self._heaviest is not None and mine else self._entries))

    def _evict(self, key: K) -> None:
        self.pop(key)
        self.evicted.append(key)
