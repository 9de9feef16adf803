"""What the page has a running node do: feeds come and go, and are there after a restart."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError, FetchError, P2prssError, UnnamedFeedError, UsageError
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.node.duties import carry_out
from p2prss.node.events import Error, Event, Notice, Published, Ready, Synced, Waiting
from p2prss.node.feed_lookup import as_typed
from p2prss.node.home_paths import HomePaths
from p2prss.node.link_text import FeedLink
from p2prss.node.orders import PublishOrder
from p2prss.node.page_token import read_token
from p2prss.serve.actions import AddAs, AddRequest, NamedBy
from tests.fakes import running_node
from tests.fakes.quiet_origin import QuietOrigin
from tests.fakes.running_node import Told, no

PODCAST = "https://podcastindex.org/namespace/1.0"


node_at = partial(running_node.node_at, http="127.0.0.1:0")  # it serves the page


@asynccontextmanager
async def published(home: Path) -> AsyncIterator[str]:
    """A show that a node shares; its link."""
    await trio.Path(home / "show").mkdir(parents=True)
    source = await trio.to_thread.run_sync(make_demo_show, home / "show")
    async with node_at(home / "home", "127.0.0.1:0") as (node, told), trio.open_nursery() as nursery:
        nursery.start_soon(carry_out, node, PublishOrder(str(source)), no)
        ready: Ready = await told.wait(Ready)
        yield ready.link
        nursery.cancel_scope.cancel()


async def test_a_feed_is_followed_at_once_served_saved_and_removed(tmp_path: Path) -> None:
    async with published(tmp_path / "a") as link:
        async with node_at(tmp_path / "b") as (node, told):
            key = await node.actions.add(AddRequest(source=f" {link} ", latest=None))
            assert await node.actions.add(AddRequest(source=link)) == key
            assert [feed.key for feed in node.library.feeds()] == [key]
            synced: Synced = await told.wait(Synced)
            state = node.actions.state(key)
            assert state is not None
            assert (state.role, state.work, state.problem) == ("follow", None, None)
            assert state.stored_bytes > synced.bytes // 2  # about: blocks differ in size
            assert state.link.startswith(f"p2prss://{format_key(key)}")
            assert (await node.actions.disk()).used_bytes > synced.bytes // 2  # the system writes at leisure
        async with node_at(tmp_path / "b") as (node, told):
            await node.actions.run_saved()
            ready: Ready = await told.wait(Ready)
            assert ready.key == format_key(key)
            await node.actions.remove(key)
            assert node.library.feeds() == []
            assert node.actions.state(key) is None
            assert node.saved.all() == []
            assert list(node.settings.home.cores.iterdir()) == []
            with pytest.raises(UsageError):
                await node.actions.remove(key)
            again = await node.actions.add(AddRequest(source=link))
            assert again == key
            await told.wait(Synced)


async def test_a_web_address_is_published_and_comes_back(tmp_path: Path) -> None:
    await trio.Path(tmp_path / "show").mkdir()
    source = await trio.to_thread.run_sync(make_demo_show, tmp_path / "show")
    with QuietOrigin(source.parent) as origin:
        url = f"{origin.url}/{source.name}"
        async with node_at(tmp_path / "home") as (node, _):
            with pytest.raises(UnnamedFeedError) as caught:
                await node.actions.add(AddRequest(source=url))
            assert (caught.value.feed_url, node.feeds) == (url, [])
            with pytest.raises(UnnamedFeedError):
                await node.actions.add(AddRequest(source=url, add_as=AddAs.FOLLOW))
            key = await node.actions.add(AddRequest(source=url, add_as=AddAs.PUBLISH))
            state = node.actions.state(key)
            assert state is not None
            assert (state.role, state.named_by) == ("publish", None)
            assert await node.actions.add(AddRequest(source=url)) == key
        async with node_at(tmp_path / "home") as (node, told):
            await node.actions.run_saved()
            ready: Ready = await told.wait(Ready)
            assert ready.key == format_key(key)
            await told.wait(Waiting)
            assert {"feed", "mirror", "poll"} <= set(kinds_of(tmp_path / "home", key))
            await node.actions.remove(key)
            assert node.saved.all() == []
        assert kinds_of(tmp_path / "home", key) == []


def kinds_of(home: Path, key: CoreKey) -> list[str]:
    """The kinds of all records that a home has of a feed."""
    with closing(sqlite3.connect(HomePaths(home).database)) as database:
        rows = database.execute("SELECT kind FROM record WHERE key = ?", (format_key(key),)).fetchall()
    return [kind for (kind,) in rows]


async def until(told: Told, kinds: set[type[Event]]) -> list[Event]:
    """All events until one of each of these was told."""
    heard: list[Event] = []
    with trio.fail_after(20):
        while not kinds <= {type(event) for event in heard}:
            heard.append(await told.receive.receive())
    return heard


async def test_one_feed_that_cannot_be_opened_does_not_hinder_the_others(tmp_path: Path) -> None:
    keys = []
    for name in ("damaged", "fine", "withdrawn"):
        await trio.Path(tmp_path / name).mkdir()
        source = await trio.to_thread.run_sync(make_demo_show, tmp_path / name)
        async with node_at(tmp_path / "home") as (node, _):
            await carry_out(node, PublishOrder(str(source), once=True), no)
            keys.append(node.feeds[0].key)
            if name == "withdrawn":
                saved = node.feeds[0].saved
                node.saved.save(msgspec.structs.replace(saved, withdrawn=datetime.now(UTC)))
    with closing(sqlite3.connect(HomePaths(tmp_path / "home").database)) as database, database:
        assert database.execute("UPDATE core SET roots = x'00' WHERE key = ?", (keys[0],)).rowcount == 1
    async with node_at(tmp_path / "home") as (node, told):
        await node.actions.run_saved()
        heard = await until(told, {Error, Published, Notice})
        assert [event.code for event in heard if isinstance(event, Error)] == [4]
        assert {event.key for event in heard if isinstance(event, Published)} == {format_key(keys[1])}
        assert {feed.key for feed in node.feeds} == set(keys[1:])
        assert len(node.saved.all()) == 3  # what was taken back is not published anew


async def test_what_cannot_be_added_leaves_nothing_behind(tmp_path: Path) -> None:
    async with node_at(tmp_path / "home") as (node, told):
        for wrong in ("", "xyz", "file:///etc/passwd", "/etc/passwd", "ftp://e.org/x", "https://u:p@e.org/f"):
            with pytest.raises(UsageError):
                await node.actions.add(AddRequest(source=wrong))
        with pytest.raises(P2prssError) as caught:
            await node.actions.add(AddRequest(source="http://127.0.0.1:1/feed.xml"))
        assert isinstance(caught.value, FetchError)
        with pytest.raises(P2prssError) as caught:
            await node.actions.add(AddRequest(source="http://127.0.0.1:1/feed.xml", add_as=AddAs.PUBLISH))
        assert isinstance(caught.value, FetchError)
        error: Error = await told.wait(Error)
        assert error.code in (2, 3)
        assert node.feeds == []
        assert list(node.library.feeds()) == []
        assert node.saved.all() == []
        assert list(node.actions.problems) == []  # whoever added it was told


async def test_an_address_that_names_a_key_is_followed_once_the_feed_names_it_in_return(
    tmp_path: Path,
) -> None:
    async with published_from_the_web(tmp_path / "a") as (link, page, thief):
        async with node_at(tmp_path / "b") as (node, told):
            node.dial(FeedLink.parse(link).peers[0])
            key = await node.actions.add(AddRequest(source=page))
            state = node.actions.state(key)
            assert state is not None
            assert state.role == "follow"
            await told.wait(Ready)
            assert node.actions.state(key).named_by == NamedBy("127.0.0.1", confirmed=True)  # type: ignore[union-attr]
            assert await node.actions.add(AddRequest(source=page)) == key
            assert [saved.named_by for saved in node.saved.all()] == [()]
        async with node_at(tmp_path / "c") as (node, told):
            node.dial(FeedLink.parse(link).peers[0])
            with suppress(FeedFormatError):  # where that is seen at once
                await node.actions.add(AddRequest(source=thief, add_as=AddAs.FOLLOW))
            error: Error = await told.wait(Error)
            assert "may be somebody else's" in error.message
            assert (node.feeds, list(node.library.feeds()), node.saved.all()) == ([], [], [])


async def test_what_an_address_named_is_looked_into_after_a_restart_as_well(tmp_path: Path) -> None:
    async with published_from_the_web(tmp_path / "a") as (link, _, thief):
        async with node_at(tmp_path / "b") as (node, _):
            key = await node.actions.add(AddRequest(source=thief))
            state = node.actions.state(key)
            assert state is not None
            assert state.named_by == NamedBy("localhost", confirmed=False)
            assert [feed.key for feed in node.library.feeds()] == [key]
        async with node_at(tmp_path / "b") as (node, told):
            await node.actions.run_saved()
            node.dial(FeedLink.parse(link).peers[0])
            error: Error = await told.wait(Error)
            assert "may be somebody else's" in error.message
            assert node.saved.all() == []


@asynccontextmanager
async def published_from_the_web(home: Path) -> AsyncIterator[tuple[str, str, str]]:
    """A show that names its key where it comes from.

    Yields: its link, the address of a page that leads to its feed, and that of another site that does.
    """
    await trio.Path(home / "show").mkdir(parents=True)
    source = await trio.to_thread.run_sync(make_demo_show, home / "show")
    page = trio.Path(source.parent / "index.html")
    await page.write_text(
        f'<!doctype html><link rel="alternate" type="application/rss+xml" href="{source.name}">'
    )
    with QuietOrigin(source.parent) as origin:
        url = f"{origin.url}/{source.name}"
        async with node_at(home / "home", "127.0.0.1:0") as (node, told):
            key = await node.actions.add(AddRequest(source=url, add_as=AddAs.PUBLISH))
            ready: Ready = await told.wait(Ready)
            await told.wait(Waiting)
            text = await trio.Path(source).read_text()
            proof = f'<podcast:txt xmlns:podcast="{PODCAST}" purpose="p2prss">{format_key(key)}</podcast:txt>'
            await trio.Path(source).write_text(text.replace("<item>", f"{proof}<item>", 1))
            yield ready.link, f"{origin.url}/index.html", url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (" https://e.org/f ", "https://e.org/f"),
        ("e.org", "https://e.org"),
        ("www.example.co.uk/feed.xml?a=b", "https://www.example.co.uk/feed.xml?a=b"),
        ("münchen.example:8080/x", "https://münchen.example:8080/x"),
        ("feed:https://e.org/f", "https://e.org/f"),
        ("feed://e.org/f", "https://e.org/f"),
        ("PCAST://e.org/f", "https://e.org/f"),
        ("podcast:e.org/f", "https://e.org/f"),
        ("p2prss://key?name=a.b", "p2prss://key?name=a.b"),
        ("hello", "hello"),
        ("two words.org", "two words.org"),
        ("/etc/passwd.txt", "/etc/passwd.txt"),
        ("1.2.3", "1.2.3"),
        ("y" * 52, "y" * 52),
    ],
)
def test_what_is_typed_is_what_is_meant(typed: str, meant: str) -> None:
    assert as_typed(typed) == meant


async def test_only_addresses_that_all_may_read_are_published_from_the_page(tmp_path: Path) -> None:
    async with node_at(tmp_path / "home") as (node, _):
        for wrong in ("y" * 52, "https://u:p@127.0.0.1:1/f", "https://127.0.0.1:1/f?token=abc"):
            with pytest.raises(UsageError):
                await node.actions.add(AddRequest(source=wrong, add_as=AddAs.PUBLISH))


async def test_with_nothing_saved_there_is_a_hint(tmp_path: Path) -> None:
    async with node_at(tmp_path / "home") as (node, told):
        await node.actions.run_saved()
        assert "add one" in (await told.wait(Notice)).message
        assert node.library.ready


async def test_the_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    async with node_at(tmp_path / "home") as (node, _):
        token = node.actions.token
    home = HomePaths(tmp_path / "home")
    assert len(token) == 43
    assert home.page_token.stat().st_mode & 0o777 == 0o600
    assert read_token(home.page_token) == token
    home.page_token.chmod(0o644)
    replaced = read_token(home.page_token)
    assert replaced != token
    assert home.page_token.stat().st_mode & 0o777 == 0o600
    home.page_token.write_text("short\n")
    assert len(read_token(home.page_token)) == 43
