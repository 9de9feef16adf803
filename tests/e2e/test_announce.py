"""People share names, not keys: a host advertises the swarm, and its address is enough to follow."""

from pathlib import Path
from xml.etree import ElementTree

from tests.e2e.program import run, running
from tests.e2e.show import SMALL, Show
from tests.feed.sources.album import album
from tests.feed.sources.psp import ITUNES, check_required
from tests.tools.podcast.origin import Origin

PODCAST = "{https://podcastindex.org/namespace/1.0}"
PAGE = '<!doctype html><link rel="alternate" type="application/rss+xml" href="/feed.xml"><p>A show.'


async def test_a_show_is_followed_by_its_address(tmp_path: Path) -> None:
    show = Show.make(tmp_path / "show", SMALL)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with Origin(show.folder) as origin:
        told = (await run("publish", origin.feed_url, "--once", "--no-http", home=ours)).event("published")
        key = told["key"]
        refused = await run("follow", origin.feed_url, "--once", "--no-http", home=theirs, code=1)
        assert "names no p2prss feed" in refused.stderr

        made = (await run("announce", key, "--gateway", "https://gate.example/", home=ours)).lines[0]
        assert (made["key"], made["items"]) == (key, SMALL.episodes)
        channel = ElementTree.fromstring(made["xml"]).find("channel")
        assert channel is not None
        assert channel.findtext(f"{PODCAST}txt[@purpose='p2prss']") == key
        for item in channel.iterfind("item"):
            added = item.findall(f"{PODCAST}alternateEnclosure")[-1]
            uris = [one.get("uri", "") for one in added.iterfind(f"{PODCAST}source")]
            assert uris[0].startswith(f"hyper://{key}/media/")
            assert uris[1].startswith(f"https://gate.example/feeds/{key}/episodes/")
            assert item.find("enclosure").get("url", "").startswith(origin.url)  # type: ignore[union-attr]

        await run("announce", key, "-o", show.feed, home=ours)
        (show.folder / "index.html").write_text(PAGE)
        async with running(
            "publish", origin.feed_url, "--listen", "127.0.0.1:0", "--no-http", home=ours
        ) as node:
            peer = (await node.event("ready"))["listen"][0]
            await node.event("published")
            assert any("publisher's own" in one["message"] for one in node.events("notice"))
            for address in (origin.feed_url, f"{origin.url}/index.html"):
                done = await run("follow", address, "--once", "--no-http", "--peer", peer, home=theirs)
                assert done.event("synced")["key"] == key
                assert [line for line in done.lines if "their own" in line.get("message", "")]
            # A host that passes off somebody else's show is found out, and nothing of it is kept.
            with Origin(show.folder) as thief:
                address = thief.feed_url.replace("127.0.0.1", "localhost")
                stranger = tmp_path / "stranger"
                done = await run(
                    "follow", address, "--once", "--no-http", "--peer", peer, home=stranger, code=1
                )
                assert "it may be somebody else's" in done.stderr
                assert not (await run("list", home=stranger)).lines


async def test_a_folder_is_announced_with_the_addresses_of_a_gateway(tmp_path: Path) -> None:
    folder, home = album(tmp_path / "folder"), tmp_path / "home"
    key = (await run("publish", folder, "--once", "--no-http", home=home)).event("published")["key"]
    bare = await run("announce", key, "-o", tmp_path / "bare.xml", home=home)
    assert bare.lines[0]["relative"] == 4
    words = ("--gateway", "https://gate.example/pods", "--at", "https://ann.example/feed.xml")
    made = (await run("announce", key, *words, home=home)).lines[0]
    check_required(made["xml"].encode())
    assert 'rel="self" href="https://ann.example/feed.xml"' in made["xml"]
    assert (made["advertised"], made["relative"]) == (4, 0)
    channel = ElementTree.fromstring(made["xml"]).find("channel")
    assert channel is not None
    assert channel.findtext("link") == f"https://gate.example/pods/shows/{key}"
    places = [one.get("url", "") for one in channel.iter("enclosure")]
    places += [one.get("href", "") for one in channel.iter(f"{ITUNES}image")]
    assert len(places) == 5
    assert all(place.startswith(f"https://gate.example/pods/feeds/{key}/") for place in places)
    for option in ("--at", "--gateway"):
        assert "https://…" in (await run("announce", key, option, "x.xml", home=home, code=2)).error
