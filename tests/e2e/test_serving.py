"""How the program serves apps: behind a proxy, only what is ready, all shows together, and to its end."""

from hashlib import sha256
from pathlib import Path

import httpx
import trio

from tests.e2e.program import Start, fetch, run
from tests.e2e.show import Show, served
from tests.e2e.test_clients import follow


async def test_behind_a_proxy_feeds_name_its_address(local_show: Show, start: Start, tmp_path: Path) -> None:
    publisher = await start(
        *("publish", local_show.feed, "--http", "127.0.0.1:0", "--public-url", "https://pods.example.org/a/"),
        *("--http-host", "inner.example", "--trust-proxy", "127.0.0.1"),
        home=tmp_path,
    )
    ready = await publisher.event("ready")
    await publisher.event("published")
    assert ready["feed_url"] == f"https://pods.example.org/a/feeds/{ready['key']}/feed.xml"
    inner = f"{ready['http']}/feeds/{ready['key']}/feed.xml"
    for host in ("pods.example.org", "inner.example", "localhost"):
        reply = await fetch(inner, host=host, x_forwarded_host="inner.example")
        assert f'href="{ready["feed_url"]}"' in reply.text
    assert (await fetch(inner, host="rebound.example")).status_code == 421
    assert (await fetch(inner, host="localhost", x_forwarded_host="rebound.example")).status_code == 421


async def test_a_proxy_that_is_no_address_is_refused(local_show: Show, tmp_path: Path) -> None:
    for wrong in (
        ["--public-url", "pods.example.org"],
        ["--trust-proxy", "localhost"],
        ["--http-host", "a b"],
    ):
        refused = await run("publish", local_show.feed, *wrong, home=tmp_path / "home", code=2)
        assert wrong[1] in refused.error
    assert not (tmp_path / "home").exists()


async def test_only_episodes_that_are_here_are_listed(local_show: Show, start: Start, tmp_path: Path) -> None:
    _, feed_url = await follow(local_show, start, tmp_path, "--latest", "1", "--ready-only")
    (newest,) = await served(feed_url)
    everything = await served(feed_url.partition("/feeds/")[0] + "/everything.xml")
    assert everything == [newest]
    assert sha256((await fetch(newest.url)).content).hexdigest() == local_show.episodes[-1]["sha256"]


async def test_all_shows_together_are_served_too(local_show: Show, start: Start, tmp_path: Path) -> None:
    _, feed_url = await follow(local_show, start, tmp_path, "--on-demand")
    base = feed_url.partition("/feeds/")[0]
    assert {one.url for one in await served(f"{base}/everything.xml")} == {
        one.url for one in await served(feed_url)
    }
    opml = await fetch(f"{base}/opml.xml")
    assert f'xmlUrl="{feed_url}"' in opml.text


async def test_an_answer_finishes_although_the_program_ends(
    long_show: Show, start: Start, tmp_path: Path
) -> None:
    publisher = await start("publish", long_show.feed, "--http", "127.0.0.1:0", home=tmp_path)
    await publisher.event("published")
    episode = (await served(publisher.lines[0]["feed_url"]))[-1]
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("GET", episode.url) as reply,
    ):
        digest = sha256()
        parts = reply.aiter_bytes()
        digest.update(await anext(parts))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.stop)
            await trio.sleep(0.5)
            async for part in parts:
                digest.update(part)
    assert digest.hexdigest() == long_show.episodes[0]["sha256"]
