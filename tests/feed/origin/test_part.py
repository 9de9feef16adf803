"""Parts of what an origin has: the bytes that were asked for, or nothing."""

from pathlib import Path
from random import Random

import pytest

from p2prss.feed.origin.fetch import Fetcher
from p2prss.feed.origin.part import Part
from tests.fakes.quiet_origin import QuietOrigin as Origin

BODY = Random(2).randbytes(100_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.mp3").write_bytes(BODY)
    return tmp_path


async def part(root: Path, start: int, stop: int, *rules: str) -> tuple[Part | None, int]:
    """The part, and the bytes that the origin sent for it."""
    with Origin(root, rules=rules) as origin:
        async with Fetcher(origin.feed_url) as fetcher:
            found = await fetcher.read_part(f"{origin.url}/a.mp3", start, stop)
        return found, sum(hit.sent for hit in origin.hits)


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (50_000, 60_000), (99_990, 100_000), (99_990, 200_000)])
@pytest.mark.parametrize("rule", ["", "*.mp3 redirect=302 to=/a.mp3?x times=1"])
async def test_the_bytes_asked_for_come(root: Path, start: int, stop: int, rule: str) -> None:
    rules = (rule,) if rule else ()
    found, _ = await part(root, start, stop, *rules)
    assert found == Part(BODY[start:stop], len(BODY), "audio/mpeg", is_asked_for=True)


async def test_without_ranges_the_first_bytes_come_and_are_told_apart(root: Path) -> None:
    (root / "a.mp3").write_bytes(BODY * 50)
    found, _ = await part(root, 0, 1000, "*.mp3 no-range")
    assert found is not None
    assert (found.data, found.total, found.is_asked_for) == (BODY[:1000], 5_000_000, False)


@pytest.mark.parametrize(
    "rule",
    [
        "*.mp3 status=404",
        "*.mp3 status=503",
        "*.mp3 status=416",
        "*.mp3 cut=5",
        "*.mp3 redirect=302 to=/a.mp3",
        "*.mp3 redirect=302 to=http://10.0.0.1/a.mp3",
        "*.mp3 redirect=302 to=file:///etc/passwd",
    ],
)
async def test_what_proves_nothing_is_nothing(root: Path, rule: str) -> None:
    found, _ = await part(root, 0, 1000, rule)
    assert found is None
