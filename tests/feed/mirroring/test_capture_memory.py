"""Files that cannot be had are asked for more and more rarely, over any number of runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from p2prss.feed.mirroring.capture_memory import CaptureMemory, CaptureState, read_state
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio

START = datetime(2025, 1, 1, tzinfo=UTC)
URL = "https://a.example/1.mp3"
ITEM = '<item><guid>1</guid><enclosure url="/1.mp3" type="audio/mpeg"/></item>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "show").mkdir()
    (tmp_path / "show" / "feed.xml").write_text(f"<rss><channel><title>T</title>{ITEM}</channel></rss>")
    return tmp_path / "show"


def at(hours: float) -> Callable[[], datetime]:
    return lambda: START + timedelta(hours=hours)


def test_refused_files_wait_longer_each_time() -> None:
    memory, now, waits = CaptureMemory(CaptureState()), START, []
    for _ in range(6):
        memory.failed(URL, now, is_refused=True)
        hours = 0
        while memory.must_wait(URL, now + timedelta(hours=hours)):
            hours += 1
        waits.append(hours)
        now += timedelta(hours=hours)
        memory = CaptureMemory(read_state(msgspec.json.encode(memory.state)))
    assert waits == [1, 6, 24, 168, 168, 168]
    memory.succeeded(URL)
    assert not memory.must_wait(URL, now)
    assert memory.state == CaptureState()


def test_failures_of_the_network_are_forgiven_twice() -> None:
    memory = CaptureMemory(CaptureState())
    waits = []
    for _ in range(4):
        memory.failed(URL, START, is_refused=False)
        waits.append(memory.must_wait(URL, START + timedelta(minutes=30)))
    assert waits == [False, False, True, True]


def test_what_nothing_names_is_forgotten_and_a_broken_record_is_none() -> None:
    memory = CaptureMemory(CaptureState())
    memory.failed(URL, START, is_refused=True)
    assert memory.is_changed
    memory.captured("0123", 1, START, '"tag"', 5)
    memory.keep_only({URL}, {"0123"})
    assert (len(memory.state.failures), len(memory.state.enclosures)) == (1, 1)
    memory.keep_only({"https://a.example/2.mp3"}, set())
    assert memory.state == CaptureState()
    assert not memory.is_changed
    assert read_state(b'{"failures": 3}') == read_state(None) == CaptureState()


async def test_a_missing_file_is_not_asked_for_at_every_look(folder: Path, studio: Studio) -> None:
    with Origin(folder) as origin:
        for quarter in range(4 * 8):  # a look every 15 minutes, for 8 hours
            report = await studio.update(origin.feed_url, now=at(quarter / 4))
            assert len(report.failures) == (quarter in (0, 4, 28))
        assert origin.count("/1.mp3") == 3
        (folder / "1.mp3").write_bytes(b"ID3" + bytes(100))
        await studio.update(origin.feed_url, now=at(30))
        assert origin.count("/1.mp3") == 3
        report = await studio.update(origin.feed_url, now=at(7 + 24))
        assert (report.failures, report.fetched_files) == ([], 1)
        assert studio.captures.value == b"{}"


async def test_an_origin_that_breaks_off_is_asked_again_at_once(folder: Path, studio: Studio) -> None:
    (folder / "1.mp3").write_bytes(b"ID3" + bytes(100))
    with Origin(folder, rules=["/1.mp3 reset"]) as origin:
        assert len((await studio.update(origin.feed_url, now=at(0))).failures) == 1
        origin.set_rules([])
        assert (await studio.update(origin.feed_url, now=at(0))).fetched_files == 1


async def test_a_local_file_is_looked_for_at_every_look(folder: Path, studio: Studio) -> None:
    (folder / "feed.xml").write_text((folder / "feed.xml").read_text().replace("/1.mp3", "1.mp3"))
    assert len((await studio.update(str(folder / "feed.xml"), now=at(0))).failures) == 1
    (folder / "1.mp3").write_bytes(b"ID3" + bytes(100))
    assert (await studio.update(str(folder / "feed.xml"), now=at(0))).fetched_files == 1
