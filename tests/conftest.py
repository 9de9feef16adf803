"""What every test may use: vectors of the reference, JavaScript peers, home folders, properties."""

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
import trio
from hypothesis import HealthCheck, settings

_ROOT: Final = Path(__file__).parents[1]
_VECTORS: Final = Path(__file__).parent / "vectors"

# Helpers of the tests (tests.fakes, tests.interop) are imported by their path from the root.
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from tests.interop.js_peer import JsPeer  # noqa: E402  (needs the root in sys.path)

# One run finds what another does; "deep" is for the developer who hunts: HYPOTHESIS_PROFILE=deep
_QUIET: Final = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=_QUIET
)
settings.register_profile("deep", max_examples=5_000, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


class StartJsPeer(Protocol):
    """Starts a JavaScript peer that lives until the test ends; its store is ``tmp_path / name``."""

    def __call__(self, name: str = "js", *, primary_key: bytes | None = None) -> Awaitable[JsPeer]: ...


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], dict[str, Any]]:
    """``vectors("core")`` is the content of ``tests/vectors/core.json``, read once."""
    loaded: dict[str, dict[str, Any]] = {}

    def load(name: str) -> dict[str, Any]:
        if name not in loaded:
            loaded[name] = json.loads((_VECTORS / f"{name}.json").read_text(encoding="utf-8"))
        return loaded[name]

    return load


@pytest.fixture
def make_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``make_home("a")`` is a new, empty p2prss home; the user's own can never be meant."""
    monkeypatch.delenv("P2PRSS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))

    def make(name: str = "home") -> Path:
        home = tmp_path / name
        home.mkdir(mode=0o700)
        return home

    return make


@pytest.fixture
async def js_peer(tmp_path: Path) -> AsyncIterator[StartJsPeer]:
    """``await js_peer("writer")`` is a running JavaScript peer."""
    async with trio.open_nursery() as nursery:

        async def hold(
            directory: Path, primary_key: bytes | None, task_status: trio.TaskStatus[JsPeer]
        ) -> None:
            async with JsPeer.open(directory, primary_key=primary_key) as peer:
                task_status.started(peer)
                await trio.sleep_forever()

        async def start(name: str = "js", *, primary_key: bytes | None = None) -> JsPeer:
            peer: JsPeer = await nursery.start(hold, tmp_path / name, primary_key)
            return peer

        yield start
        nursery.cancel_scope.cancel()
