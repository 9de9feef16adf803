"""Programs that end with their test, and shows that are made once."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
import trio

from tests.e2e.program import Program, Start, running
from tests.e2e.show import LOCAL, LONG, SMALL, Show
from tests.fakes.quiet_origin import QuietOrigin
from tests.tools.podcast.spec import Spec


class Serve(Protocol):
    """``serve(show, "*.mp3 cut=50% times=1")`` is an origin of a show, up until the test ends."""

    def __call__(self, show: Show | Path, *rules: str) -> QuietOrigin: ...


@pytest.fixture(scope="session")
def shared_show(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Show]:
    """``shared_show(Spec(...))`` is a show that several tests use and none changes."""
    made: dict[Spec, Show] = {}

    def make(spec: Spec = SMALL) -> Show:
        if spec not in made:
            made[spec] = Show.make(tmp_path_factory.mktemp("show"), spec)
        return made[spec]

    return make


@pytest.fixture
def show(shared_show: Callable[..., Show]) -> Show:
    """A small show that the test must not change."""
    return shared_show()


@pytest.fixture(scope="session")
def local_show(shared_show: Callable[..., Show]) -> Show:
    """A small show that is published from its file, and needs no origin."""
    return shared_show(LOCAL)


@pytest.fixture(scope="session")
def long_show(shared_show: Callable[..., Show]) -> Show:
    """Likewise with long episodes."""
    return shared_show(LONG)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(show: Show | Path, *rules: str) -> QuietOrigin:
            folder = show.folder if isinstance(show, Show) else show
            return stack.enter_context(QuietOrigin(folder, rules=rules))

        yield start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start programs; when the test ends they are stopped, all at the same time."""
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def hold(
            arguments: Sequence[str | Path],
            home: Path,
            prefix: Sequence[str],
            environ: Mapping[str, str] | None,
            task_status: trio.TaskStatus[Program],
        ) -> None:
            async with running(*arguments, home=home, prefix=prefix, environ=environ) as program:
                task_status.started(program)
                await done.wait()

        async def start_one(
            *arguments: str | Path,
            home: Path,
            prefix: Sequence[str] = (),
            environ: Mapping[str, str] | None = None,
        ) -> Program:
            program: Program = await nursery.start(hold, arguments, home, prefix, environ)
            return program

        yield start_one
        done.set()
