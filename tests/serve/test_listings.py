"""The feed of all shows together, the list of feeds, and lists of what can be played at once."""

from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from p2prss.crypto.keys import CoreKey
from p2prss.errors import BlockUnavailableError, NoPeersError
from p2prss.serve import listings, windows
from p2prss.serve.library import ServeSettings
from tests.fakes.memory_drive import MemoryFeed, Trouble
from tests.serve.conftest import Client, Reply, StartServer
from tests.serve.test_rss import guids, items_of, links, url_of

ITUNES = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"


def a_show(number: int, title: str) -> MemoryFeed:
    return MemoryFeed(key=CoreKey(bytes([number]) * 32), slug=f"show-{number}", title=title)


def day(number: int) -> datetime:
    return datetime(2024, 5, number, tzinfo=UTC)


def two_shows() -> tuple[MemoryFeed, MemoryFeed]:
    one, two = a_show(1, "One & only"), a_show(2, "Two")
    one.add("a", one.asset("enclosure", "https://one.example/a.mp3", b"audio a"), seen=day(1))
    two.add("b", two.asset("enclosure", "https://two.example/b.mp3", b"audio b"), seen=day(2))
    one.add("c", seen=day(3))
    return one, two


async def everything(client: Client, query: str = "", **headers: str) -> Reply:
    return await client.request(f"/everything.xml{query}", **headers)


async def test_all_shows_together_newest_first(start_server: StartServer) -> None:
    one, two = two_shows()
    client = await start_server(one, two)
    reply = await everything(client)
    base = f"http://127.0.0.1:{client.port}"
    assert reply.headers["content-type"] == "application/rss+xml; charset=utf-8"
    assert guids(reply) == ["c", "b", "a"]
    assert links(reply) == {"self": f"{base}/everything.xml"}
    sources = [item.find("source") for item in items_of(reply)]
    assert [(source.text, source.get("url")) for source in sources if source is not None] == [
        ("One & only", base + url_of(one)),
        ("Two", base + url_of(two)),
        ("One & only", base + url_of(one)),
    ]
    enclosure = items_of(reply)[2].find("enclosure")
    assert enclosure is not None
    audio = await client.request(enclosure.attrib["url"].removeprefix(base))
    assert audio.body == b"audio a"
    assert "access-control-allow-origin" not in reply.headers


async def test_it_is_the_same_until_a_show_changes(start_server: StartServer) -> None:
    one, two = two_shows()
    client = await start_server(one, two)
    first = await everything(client)
    assert (await everything(client)).headers["etag"] == first.headers["etag"]
    assert (await everything(client, If_None_Match=first.headers["etag"])).status == 304
    two.add("d", seen=day(4))
    changed = await everything(client, If_None_Match=first.headers["etag"])
    assert guids(changed) == ["d", "c", "b", "a"]
    client.library.shows.remove(one)
    assert guids(await everything(client)) == ["d", "b"]


async def test_without_a_show_it_is_an_empty_feed(start_server: StartServer) -> None:
    assert items_of(await everything(await start_server())) == []


async def test_it_has_pages(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PAGE_ITEMS", 2)
    client = await start_server(*two_shows())
    first, second = await everything(client), await everything(client, "?page=2")
    assert (guids(first), guids(second)) == (["c", "b"], ["a"])
    base = f"http://127.0.0.1:{client.port}/everything.xml"
    assert links(first)["next"] == f"{base}?page=2"
    assert links(second)["previous"] == base
    assert guids(await everything(client, "?all=1")) == ["c", "b", "a"]
    assert (await everything(client, "?page=3")).status == 404


async def test_an_item_has_the_picture_of_its_show_and_one_source(start_server: StartServer) -> None:
    one = a_show(1, "One")
    cover = one.asset("image", "https://one.example/cover.jpg", b"\xff\xd8\xff", "jpg")
    one.put_info(channel_assets=[cover])
    one.add("a", xml='<item><guid>a</guid><source url="https://old.example">Old</source></item>', seen=day(2))
    own = f'<item xmlns:itunes="{ITUNES[1:-1]}"><guid>b</guid><itunes:image href="https://one.example/b.jpg"/></item>'
    one.add("b", xml=own, seen=day(1))
    client = await start_server(one)
    first, second = items_of(await everything(client))
    assert [source.text for source in first.findall("source")] == ["One"]
    (image,) = first.findall(f"{ITUNES}image")
    assert (
        await client.request(image.attrib["href"].removeprefix(f"http://127.0.0.1:{client.port}"))
    ).status == 200
    assert [image.get("href") for image in second.findall(f"{ITUNES}image")] == ["https://one.example/b.jpg"]


async def test_a_show_that_cannot_be_listed_now_is_left_out_for_now(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "MERGE_SECONDS", 0.05)
    one, two = two_shows()
    client = await start_server(one, two)
    for trouble in (Trouble(error=NoPeersError("nobody")), Trouble(wait=True)):
        two.drive.troubles["/p2prss.json"] = trouble
        two.drive.version += 1
        assert guids(await everything(client)) == ["c", "a"]
        two.drive.troubles.clear()
        assert guids(await everything(client)) == ["c", "b", "a"]


async def test_items_that_do_not_come_are_left_out_and_not_remembered_so(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "SKIP_SECONDS", 0.05)
    one, two = two_shows()
    client = await start_server(one, two)
    path = next(path for path in two.drive.files if path.startswith("/items/"))
    for trouble in (Trouble(error=BlockUnavailableError("nobody")), Trouble(wait=True)):
        two.drive.troubles[path] = trouble
        part = await everything(client)
        assert guids(part) == ["c", "a"]
        two.drive.troubles.clear()
        assert guids(await everything(client, If_None_Match=part.headers["etag"])) == ["c", "b", "a"]
        two.drive.version += 1


# Ready only


async def test_only_what_can_be_played_at_once_is_listed(start_server: StartServer) -> None:
    feed = MemoryFeed()
    feed.add("text only", seen=day(4))
    feed.add("here", feed.asset("enclosure", "https://example.org/1.mp3", b"audio 1"), seen=day(3))
    feed.add("at a peer", feed.asset("enclosure", "https://example.org/2.mp3", b"audio 2"), seen=day(2))
    feed.add("at the origin", feed.asset("enclosure", "https://example.org/3.mp3", None), seen=day(1))
    client = await start_server(feed, settings=ServeSettings(ready_only=True))
    remote = feed.capture(b"audio 2")
    feed.drive.troubles[remote] = Trouble()
    for path in (url_of(feed), "/everything.xml"):
        first = await client.request(path)
        assert guids(first) == ["text only", "here"]
        del feed.drive.troubles[remote]
        later = await client.request(path, If_None_Match=first.headers["etag"])
        assert guids(later) == ["text only", "here", "at a peer"]
        assert (await client.request(path, If_None_Match=later.headers["etag"])).status == 304
        feed.drive.troubles[remote] = Trouble()
    assert len(items_of(await (await start_server(feed)).request(url_of(feed)))) == 4


# OPML


async def test_the_list_of_feeds(start_server: StartServer) -> None:
    one, two = two_shows()
    client = await start_server(one, two)
    reply = await client.request("/opml.xml")
    base = f"http://127.0.0.1:{client.port}"
    assert reply.headers["content-type"] == "text/x-opml; charset=utf-8"
    root = ElementTree.fromstring(reply.text)
    assert (root.tag, root.get("version")) == ("opml", "2.0")
    assert [outline.attrib for outline in root.iterfind("body/outline")] == [
        {"type": "rss", "text": "One & only", "title": "One & only", "xmlUrl": base + url_of(one)},
        {"type": "rss", "text": "Two", "title": "Two", "xmlUrl": base + url_of(two)},
    ]
    packed = await client.request("/opml.xml", Accept_Encoding="gzip")
    assert packed.text == reply.text
    again = await client.request("/opml.xml", If_None_Match=f"W/{packed.headers['etag']}")
    assert (again.status, again.headers["etag"]) == (304, reply.headers["etag"])
    assert "access-control-allow-origin" not in reply.headers
