"""What a page may have a node do, written down instead of done."""

from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from p2prss.crypto.keys import CoreKey
from p2prss.errors import P2prssError
from p2prss.serve.actions import AddRequest, DiskUse, FeedState
from tests.fakes.memory_drive import KEY

TOKEN: Final = "the-token-of-this-home-0123456789-abcdefghi"


class Told(msgspec.Struct):
    """What a node says of itself."""

    pid: int = 1


@dataclass
class MemoryActions:
    """Satisfies ``serve.actions.HomeActions``."""

    token: str = TOKEN
    problems: list[str] = field(default_factory=list)
    ending: bool = False
    states: dict[CoreKey, FeedState] = field(default_factory=dict)
    added: list[AddRequest] = field(default_factory=list)
    removed: list[CoreKey] = field(default_factory=list)
    error: P2prssError | None = None

    def state(self, key: CoreKey) -> FeedState | None:
        return self.states.get(key)

    async def disk(self) -> DiskUse:
        return DiskUse(12_000_000, 34_000_000_000)

    async def status(self) -> msgspec.Struct:
        return Told()

    async def add(self, request: AddRequest) -> CoreKey:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.added.append(request)
        return KEY

    async def remove(self, key: CoreKey) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.removed.append(key)
