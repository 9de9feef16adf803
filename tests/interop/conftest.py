"""What the tests between p2prss and the JavaScript reference share: our peers, and how both meet."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Protocol

import pytest
import trio

from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PATIENCE, PythonPeer


class StartPythonPeer(Protocol):
    """Starts a p2prss peer that lives until the test ends; its home is ``tmp_path / name``."""

    def __call__(self, name: str = "python", *, patience: float = PATIENCE) -> Awaitable[PythonPeer]: ...


class Meet(Protocol):
    """Connects one of ours and one of theirs; who dials is up to the test's parameter."""

    def __call__(self, ours: PythonPeer, theirs: JsPeer) -> Awaitable[None]: ...


@pytest.fixture
async def python_peer(tmp_path: Path) -> AsyncIterator[StartPythonPeer]:
    """``await python_peer("reader")`` is a running p2prss peer; none may have dropped anybody at the end."""
    peers: list[PythonPeer] = []
    async with trio.open_nursery() as nursery:

        async def hold(home: Path, patience: float, task_status: trio.TaskStatus[PythonPeer]) -> None:
            async with PythonPeer.open(home, patience=patience) as peer:
                task_status.started(peer)
                await trio.sleep_forever()

        async def start(name: str = "python", *, patience: float = PATIENCE) -> PythonPeer:
            peer: PythonPeer = await nursery.start(hold, tmp_path / name, patience)
            peers.append(peer)
            return peer

        yield start
        nursery.cancel_scope.cancel()
    assert [peer.exchange.drops for peer in peers] == [{}] * len(peers)


@pytest.fixture(params=["js-listens", "we-listen"])
def meet(request: pytest.FixtureRequest) -> Meet:
    """``await meet(ours, theirs)`` connects the two; the test runs once in each role."""

    async def connect(ours: PythonPeer, theirs: JsPeer) -> None:
        if request.param == "js-listens":
            ours.dial(await theirs.listen())
        else:
            await theirs.connect(await ours.listen())

    return connect
