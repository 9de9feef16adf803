"""The main road: a show goes from a moody origin through two homes to a podcast app and to plain files."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, run
from tests.e2e.show import Show, downloaded, downloaded_twice, enclosures, hashes_of, served
from tests.tools.podcast.spec import Spec

EPISODES = 30
MEGABYTES = 0.5  # an episode; scripts/test stays quick, and blocks of 64 KiB are many all the same

MOODS = (
    "/feed.xml redirect=301 to=/moved.xml",
    "/moved.xml swap=feed.xml",
    "/moved.xml status=503 retry-after=1 times=1",
    "/media/ep0002.mp3 cut=50% times=1",
    "/media/ep0005.mp3 cut=20% times=2",
    "/media/ep0008.mp3 status=503 retry-after=1 times=1",
    "/media/ep0011.mp3 status=503 retry-after=date:2 times=1",
    "/media/ep0014.mp3 redirect=302 to=/media/{name}?sig={n} times=1",
    "/media/ep0017.mp3 redirect=301 to=/media/{name}?moved times=1",
    "/media/ep0020.mp3 length=+4000",
    "/media/ep0023.mp3 length=none",
    "/media/ep0026.mp3 length=chunked",
    "/media/ep0029.mp3 reset times=1",
    "/images/*.png no-head no-range no-etag",
)


@pytest.fixture(params=["right", "wrong"])
def large_show(shared_show: Callable[..., Show], request: pytest.FixtureRequest) -> Show:
    return shared_show(
        Spec(episodes=EPISODES, megabytes=MEGABYTES, cover_side=64, lengths=request.param, trackers=2)
    )


async def test_a_show_arrives_whole_from_a_misbehaving_origin(
    large_show: Show, serve: Serve, start: Start, tmp_path: Path
) -> None:
    origin = serve(large_show, *MOODS)
    published = await run("publish", origin.feed_url, "--once", home=tmp_path / "a")
    told = published.event("published")
    assert told["episodes"] == EPISODES
    assert told["failed"] == 0
    assert told["bytes"] >= sum(one["bytes"] for one in large_show.episodes)
    assert downloaded_twice(origin.hits) == {}
    sent = sum(hit.sent for hit in origin.hits if hit.path.endswith(".mp3"))
    assert sent <= 1.02 * sum(one["bytes"] for one in large_show.episodes)  # breaks were resumed

    publisher = await start(
        "publish", origin.feed_url, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    ready = await publisher.event("ready")
    assert ready["key"] == told["key"]
    assert (await publisher.event("published"))["unchanged"]
    assert downloaded_twice(origin.hits) == {}

    followed = await run("follow", ready["link"], "--all", "--once", home=tmp_path / "b")
    synced = followed.event("synced")
    same = ("key", "version", "episodes", "media_files", "bytes")
    assert {name: synced[name] for name in same} == {name: told[name] for name in same}
    await publisher.stop()
    origin.close()

    follower = await start("follow", ready["key"], "--all", "--http", "127.0.0.1:0", home=tmp_path / "b")
    feed_url = (await follower.event("ready"))["feed_url"]
    assert await downloaded(feed_url) == large_show.hashes
    titles = [one["title"] for one in reversed(large_show.episodes)]
    assert [one.title for one in await served(feed_url)] == titles

    report = (await run("export", ready["key"], tmp_path / "plain", home=tmp_path / "b")).lines[-1]
    assert report["missing"] == 0
    assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == large_show.hashes
    listed = enclosures((tmp_path / "plain" / "feed.xml").read_bytes())
    named = [tmp_path / "plain" / unquote(urlsplit(one.url).path) for one in listed]
    assert await hashes_of(named) == large_show.hashes
