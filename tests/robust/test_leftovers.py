"""What runs that were killed leave behind takes no room for ever."""

from pathlib import Path

from p2prss.feed.archive.records import FEED_FORMAT, CapturePolicy, FeedInfo
from p2prss.feed.archive.writer import FeedWriter
from p2prss.log.store import Store
from p2prss.net.exchange import Exchange
from p2prss.node.open_feed import FeedOpener, OpenFeed
from p2prss.node.saved_feeds import Role, SavedFeed, new_feed, new_seed_name
from tests.robust.conftest import Scene


async def new_drive(exchange: Exchange) -> OpenFeed:
    opener, seed_name = FeedOpener(exchange.store, exchange), new_seed_name()
    saved = new_feed(opener.new_own_key(seed_name), Role.PUBLISH)
    own = SavedFeed(key=saved.key, role=saved.role, created=saved.created, seed_name=seed_name)
    return await opener.open(own, eager=False)


async def test_bytes_without_an_entry_are_forgotten_when_the_next_run_begins(scene: Scene) -> None:
    feed = await new_drive(scene.writer)
    drive = feed.drive
    blobs = await drive.blobs()
    await blobs.put(b"of a run that ended before its first entry" * 5000)
    info = FeedInfo(
        format=FEED_FORMAT,
        title="T",
        created=feed.saved.created,
        updated=feed.saved.created,
        policy=CapturePolicy(),
    )
    writer = await FeedWriter.open(drive)
    core = await feed.blobs()
    assert core.held_total == 0
    await writer.put_items([], b"<rss/>", info)
    await drive.put("/media/aa/aa.mp3", b"kept" * 50_000)
    kept, length = core.held_total, core.length
    await blobs.put(b"unfinished" * 50_000)
    assert core.held_total > kept
    writer = await FeedWriter.open(drive)
    assert (core.held_total, core.held(0, length)) == (kept, kept)
    assert writer.media == {"aa": "/media/aa/aa.mp3"}
    assert await drive.get("/media/aa/aa.mp3") == b"kept" * 50_000
    await drive.put("/media/bb/bb.mp3", b"next" * 50_000)
    await FeedWriter.open(drive)
    assert await drive.get("/media/bb/bb.mp3") == b"next" * 50_000
    assert core.log.verify().clean


def test_a_home_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    """Its database appears whole: who looks into the home at that time sees no home, or an empty one."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "store.sqlite.new").write_bytes(b"half a database")
    (home / "store.sqlite.new-journal").write_bytes(b"and its journal")
    with Store.open(home) as store:
        log = store.create("log")
        log.append([b"block"])
        with Store.open_read_only(home) as other:
            assert other.open_log(log.key).get(0) == b"block"
    assert not list(home.glob("*.new*"))
