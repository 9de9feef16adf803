"""A feed that its publisher takes back: what is left of it, and who heeds it."""

from pathlib import Path

from tests.e2e.program import fetch, run, running
from tests.e2e.show import LOCAL, Show


async def test_a_feed_is_taken_back(tmp_path: Path) -> None:
    show = Show.make(tmp_path / "show", LOCAL)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    async with running("publish", show.feed, "--listen", "127.0.0.1:0", "--no-http", home=ours) as publisher:
        ready = await publisher.event("ready")
        await publisher.event("published")
        listener = running("follow", ready["link"], "--all", "--http", "127.0.0.1:0", home=theirs)
        async with listener as follower:
            feed_url = (await follower.event("ready"))["feed_url"]
            await follower.event("synced")
            assert (await fetch(feed_url)).status_code == 200
    # Nobody but its publisher can.
    refused = await run("unpublish", ready["key"], "--yes", "--once", home=theirs, code=2)
    assert "p2prss remove" in refused.stderr
    refused = await run("unpublish", ready["key"], home=ours, code=2)
    assert "--yes" in refused.stderr

    done = await run("unpublish", ready["key"], "--yes", "--once", home=ours)
    assert done.event("withdrawn")["key"] == ready["key"]
    await run("unpublish", ready["key"], "--yes", "--once", home=ours)  # as after one that was killed
    (status,) = (await run("status", ready["key"], home=ours)).lines
    assert (status["episodes"], status["media_files"], status["local_bytes"]) == (0, 0, 0)
    await run("verify", home=ours)
    stored = sum(path.stat().st_blocks * 512 for path in ours.glob("cores/**/data"))
    assert stored < LOCAL.megabytes * 1e6  # not even one episode

    # Another home of the same publisher's network hears of it from whoever has the note.
    async with running("seed", ready["key"], "--listen", "127.0.0.1:0", home=ours) as keeper:
        address = (await keeper.event("ready"))["listen"][0]
        follow = running("follow", ready["key"], "--peer", address, "--http", "127.0.0.1:0", home=theirs)
        async with follow as follower:
            await follower.event("withdrawn")
            feed_url = f"{(await follower.event('ready'))['http']}/feeds/{ready['key']}/feed.xml"
            gone = await fetch(feed_url)
            assert gone.status_code == 410
            assert "taken this feed back" in gone.text

    again = await run("publish", show.feed, "--once", "--no-http", home=ours)
    assert again.event("published")["key"] != ready["key"]
