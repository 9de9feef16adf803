"""One feed of a home that can't be read: it is named, and all the others go on."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import CorruptLogError, DiskFullError
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.log.store import Store
from p2prss.node import actions
from p2prss.node.doctor_home import check_database
from p2prss.node.duties import carry_out
from p2prss.node.events import Error, Event, Notice, Published, Ready
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import feed_status, find_feed, list_feeds, remove_feed
from p2prss.node.node import Node, open_node
from p2prss.node.orders import FollowOrder, Order, PublishOrder, SeedOrder, UpOrder
from p2prss.node.saved_feeds import KIND, Role, SavedFeeds
from p2prss.node.settings import NodeSettings
from p2prss.node.verification import verify_feeds
from tests.fakes.running_node import Told, no


@asynccontextmanager
async def node_at(home: HomePaths) -> AsyncIterator[tuple[Node, Told]]:
    told = Told()
    settings = NodeSettings.of(home=home.path, no_http=True)
    async with open_node(settings, told.send.send_nowait, with_http=False) as node:
        yield node, told


@pytest.fixture
async def home(tmp_path: Path) -> HomePaths:
    """A home with two shows of its own; the first is ``one``, by its slug."""
    found = HomePaths(tmp_path / "home")
    for name in ("one", "two"):
        folder = trio.Path(tmp_path / name)
        await folder.mkdir()
        source = await trio.to_thread.run_sync(make_demo_show, tmp_path / name)
        async with node_at(found) as (node, _):
            await carry_out(node, PublishOrder(str(source), once=True, name=name), no)
    return found


async def keys_of(home: HomePaths) -> tuple[str, str]:
    one, two = [feed.key for feed in await list_feeds(home)]
    return one, two


def change(home: HomePaths, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(home.database)) as database, database:
        assert database.execute(statement, values).rowcount == 1


def break_record(home: HomePaths, key: str, value: bytes = b'{"key":"') -> None:
    change(home, "UPDATE record SET value = ? WHERE kind = ? AND key = ?", value, KIND, key)


def break_log(home: HomePaths, key: str, column: str, value: object) -> None:
    core = bytes(SavedFeedsOf(home).key(key))
    change(home, f"UPDATE core SET {column} = ? WHERE key = ?", value, core)


class SavedFeedsOf:
    """What is saved in a home where no node runs."""

    def __init__(self, home: HomePaths) -> None:
        with Store.open_read_only(home.path) as store:
            self._feeds = SavedFeeds(store).all()

    def key(self, text: str) -> CoreKey:
        return next(feed.core_key for feed in self._feeds if feed.key == text)


async def heard(told: Told, *wanted: type[Event]) -> list[Event]:
    """All events until one of each of these was told."""
    events: list[Event] = []
    with trio.fail_after(20):
        while not set(wanted) <= {type(event) for event in events}:
            events.append(await told.receive.receive())
    return events


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'{"key":"',
        b"\xff\x00",
        b"[" * 100_000,
        b'{"key":"a","role":"sail","created":"2026-01-01T00:00:00Z"}',
    ],
    ids=["empty", "half", "bytes", "deep", "of the future"],
)
async def test_a_record_that_cannot_be_read_is_told_and_the_others_are_there(
    home: HomePaths, value: bytes
) -> None:
    broken, fine = await keys_of(home)
    break_record(home, broken, value)
    listed = {feed.key: feed for feed in await list_feeds(home)}
    assert listed[broken].role == Role.UNKNOWN
    assert "can't be read" in (listed[broken].problem or "")
    assert listed[fine].problem is None
    status = {feed.key: feed for feed in await feed_status(home, None)}
    assert "p2prss remove" in (status[broken].problem or "")
    assert (status[fine].episodes, status[fine].problem) == (3, None)
    assert all(report.ok for report in await verify_feeds(home, None, lambda _: None))
    found = check_database(home)
    assert (found.result, found.code) == ("problem", CorruptLogError.exit_code)
    assert broken in found.cause

    async with node_at(home) as (node, told), trio.open_nursery() as nursery:
        nursery.start_soon(carry_out, node, UpOrder(), no)
        events = await heard(told, Error, Ready, Published)
        assert [event.key for event in events if isinstance(event, Ready)] == [fine]
        (error,) = [event for event in events if isinstance(event, Error)]
        assert (error.key, error.code) == (broken, CorruptLogError.exit_code)
        assert list(node.actions.problems) == [error.message]
        nursery.cancel_scope.cancel()

    await remove_feed(home, await find_feed(home, broken))
    assert [feed.key for feed in await list_feeds(home)] == [fine]
    assert check_database(home).result == "ok"


async def test_a_feed_whose_record_was_lost_is_followed_again(tmp_path: Path) -> None:
    home, key = HomePaths(tmp_path / "home"), format_key(CoreKey(bytes(range(32))))
    order = FollowOrder(key, once=True, patience=0.1)
    for _ in range(2):
        async with node_at(home) as (node, _told):
            with pytest.raises(BaseExceptionGroup):
                await carry_out(node, order, no)
            assert [(feed.key, feed.role, feed.problem) for feed in node.saved.all()] == [
                (key, Role.FOLLOW, "")
            ]
        break_record(home, key)
    assert (await list_feeds(home))[0].role == Role.UNKNOWN


@pytest.mark.parametrize(
    ("column", "value"),
    [("roots", b"\0"), ("manifest", b"\xff"), ("fork", -5), ("length", "abc"), ("file_end", -1)],
)
async def test_a_log_that_cannot_be_opened_is_told_and_the_others_are_there(
    home: HomePaths, column: str, value: object
) -> None:
    broken, fine = await keys_of(home)
    break_log(home, broken, column, value)
    status = {feed.key: feed for feed in await feed_status(home, None)}
    assert status[broken].problem
    assert (status[fine].episodes, status[fine].problem) == (3, None)
    reports = {report.key: report for report in await verify_feeds(home, None, lambda _: None)}
    assert (reports[broken].ok, reports[fine].ok) == (False, True)
    for order in (UpOrder(), SeedOrder((broken, fine))):
        async with node_at(home) as (node, told), trio.open_nursery() as nursery:
            nursery.start_soon(carry_out, node, order, no)
            events = await heard(told, Error, Ready)
            assert [event.key for event in events if isinstance(event, Ready)] == [fine]
            assert [event.key for event in events if isinstance(event, Error)] == [broken]
            nursery.cancel_scope.cancel()
    await remove_feed(home, await find_feed(home, broken))
    assert [feed.key for feed in await list_feeds(home)] == [fine]


@pytest.mark.parametrize(
    ("table", "page"),
    [("extent_page", b"\xff" * 3960), ("bitfield_page", b"\xff" * 9000), ("node_page", b"\xff" * 4040)],
)
async def test_pages_of_a_log_that_make_no_sense_are_told_of_and_can_be_removed(
    home: HomePaths, table: str, page: bytes
) -> None:
    broken, fine = await keys_of(home)
    core = bytes(SavedFeedsOf(home).key(broken))
    change(
        home,
        f"UPDATE {table} SET data = ? WHERE id >> 40 = (SELECT id FROM core WHERE key = ?)",
        page,
        core,
    )
    status = {feed.key: feed for feed in await feed_status(home, None)}
    assert (status[fine].episodes, status[fine].problem) == (3, None)
    reports = {report.key: report for report in await verify_feeds(home, None, lambda _: None)}
    assert (reports[broken].ok, reports[fine].ok) == (False, True)
    async with node_at(home) as (node, told), trio.open_nursery() as nursery:
        nursery.start_soon(carry_out, node, UpOrder(), no)
        ready: set[str] = set()
        while fine not in ready:
            ready |= {event.key for event in await heard(told, Ready) if isinstance(event, Ready)}
        nursery.cancel_scope.cancel()
    await remove_feed(home, await find_feed(home, broken))
    assert [feed.key for feed in await list_feeds(home)] == [fine]


async def test_a_primary_key_of_another_home_is_told_of_before_anything_is_signed(
    home: HomePaths, tmp_path: Path
) -> None:
    await trio.Path(home.keys / "primary").write_bytes(bytes(32))
    source = tmp_path / "one" / "feed.xml"
    text = source.read_text()
    source.write_text(text.replace("<title>", "<title>Another ", 1))
    async with node_at(home) as (node, _):
        with pytest.raises(CorruptLogError, match="keys/primary"):
            await carry_out(node, PublishOrder(str(source), once=True), no)
    assert all(report.ok for report in await verify_feeds(home, None, lambda _: None))


async def test_a_saved_feed_that_failed_is_opened_again(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a disk was full for an hour."""
    one, two = await keys_of(home)
    failures = 0

    async def fails_at_first(node: Node, order: Order, confirm: object) -> None:
        nonlocal failures
        if isinstance(order, PublishOrder) and order.source.endswith("one/feed.xml") and failures < 2:
            failures += 1
            await node.open_saved(next(feed for feed in node.saved.all() if feed.key == one), eager=False)
            raise DiskFullError("the disk is full")
        await carry_out(node, order, no)

    monkeypatch.setattr(actions, "carry_out", fails_at_first)
    monkeypatch.setattr(actions, "RETRY_SECONDS", 0.01)
    async with node_at(home) as (node, told), trio.open_nursery() as nursery:
        nursery.start_soon(node.actions.run_saved)
        ready: set[str] = set()
        errors: list[Error] = []
        while ready != {one, two}:
            for event in await heard(told, Ready):
                ready |= {event.key} if isinstance(event, Ready) else set()
                errors += [event] if isinstance(event, Error) else []
        assert [error.key for error in errors] == [one, one]
        assert "the disk is full; tried again in" in errors[0].message
        assert sorted(feed.saved.key for feed in node.feeds) == sorted([one, two])
        nursery.cancel_scope.cancel()


async def test_the_end_of_a_node_is_no_conflict(tmp_path: Path) -> None:
    key = format_key(CoreKey(bytes(range(32))))
    for order in (SeedOrder((key,)), FollowOrder(key)):
        async with node_at(HomePaths(tmp_path / "home")) as (node, told):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry_out, node, order, no)
                await heard(told, Ready if isinstance(order, SeedOrder) else Notice)
                nursery.cancel_scope.cancel()
            told.send.close()
            assert not [event async for event in told.receive if isinstance(event, Error)]


@pytest.mark.parametrize("content", [b"", b"no database" * 1000, None], ids=["empty", "garbage", "gone"])
async def test_a_lost_database_is_told_of_and_never_begun_anew(
    home: HomePaths, content: bytes | None
) -> None:
    await trio.to_thread.run_sync(home.database.unlink)
    if content is not None:
        await trio.Path(home.database).write_bytes(content)
        with pytest.raises(CorruptLogError, match="backup"):
            await list_feeds(home)
    with pytest.raises(CorruptLogError, match="backup"):
        async with node_at(home):
            pass
    assert await trio.Path(home.database).exists() is (content is not None)
