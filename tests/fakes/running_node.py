"""A node of this program inside a test: its events, and somebody who says no to what it asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from p2prss.node.events import Event
from p2prss.node.node import Node, open_node
from p2prss.node.settings import NodeSettings

PATIENCE: Final = 20.0  # seconds, for any event
MAX_EVENTS: Final = 10_000  # kept for who waits later


class Told:
    """The events of a node, to wait for."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[Event](MAX_EVENTS)

    async def wait(self, kind: type[Event]) -> Any:
        """The next event of that kind; those before it are passed over."""
        with trio.fail_after(PATIENCE):
            async for event in self.receive:
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"no event {kind.__name__}")


@asynccontextmanager
async def node_at(home: Path, *listen: str, http: str | None = None) -> AsyncIterator[tuple[Node, Told]]:
    """A node for that home; it serves HTTP only where ``http`` says at which address."""
    told = Told()
    settings = NodeSettings.of(home=home, listen=listen, http=http, no_http=http is None)
    async with open_node(settings, told.send.send_nowait, with_http=http is not None) as node:
        yield node, told


async def no(_: str) -> bool:
    """To every question."""
    return False
