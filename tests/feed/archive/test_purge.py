"""What becomes of episodes that left the origin's feed: kept, hidden, or deleted if they were taken out."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from p2prss.feed.archive.archive import INFO_PATH
from p2prss.feed.archive.history import FeedHistory, What
from p2prss.feed.archive.purge import own_paths
from p2prss.feed.archive.records import ArchivedItem, RemovedPolicy
from p2prss.feed.archive.writer import FeedWriter
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

SPEC = Spec(episodes=5, megabytes=0.15, cover_side=32)
GONE = replace(SPEC, drop=frozenset({1, 3}), revision=1)  # 1 is the oldest


async def served(studio: Studio, policy: RemovedPolicy | None = None) -> list[str | None]:
    """How the items that are served left, newest first."""
    archive = studio.archive
    archive.removed = policy
    return [one.removed_as for one in await archive.served_items()]


async def mirrored(studio: Studio, folder: Path, removed: RemovedPolicy = RemovedPolicy.KEEP) -> None:
    with Origin(folder) as origin:
        for spec in (SPEC, GONE):
            make_podcast(folder, spec)
            await studio.update(origin.feed_url, removed=removed)


async def test_what_is_served_of_what_left(tmp_path: Path, studio: Studio) -> None:
    await mirrored(studio, tmp_path / "show")
    everything = [None, None, "taken-out", None, "aged-out"]
    assert await served(studio) == everything
    assert await served(studio, RemovedPolicy.KEEP) == everything
    assert await served(studio, RemovedPolicy.HIDE) == [None, None, None]
    assert await served(studio, RemovedPolicy.PURGE) == [None, None, None, "aged-out"]
    assert len(await studio.archive.items()) == 5


async def test_what_a_mirror_hides_is_hidden_unless_its_reader_says_otherwise(
    tmp_path: Path, studio: Studio
) -> None:
    await mirrored(studio, tmp_path / "show", RemovedPolicy.HIDE)
    assert await served(studio) == [None, None, None]
    assert len(await served(studio, RemovedPolicy.KEEP)) == 5
    with Origin(tmp_path / "show") as origin:
        report = await studio.update(origin.feed_url, removed=RemovedPolicy.KEEP)
        assert report.wrote  # though the feed is the same: its readers are to know
        assert len(await served(studio)) == 5
        assert not (await studio.update(origin.feed_url, removed=RemovedPolicy.KEEP)).wrote


async def bytes_here(studio: Studio, text: bytes) -> bool:
    held = (block for n, block in enumerate(studio.blobs.blocks) if studio.blobs.has(n))
    return any(text in block for block in held)


async def test_purging_deletes_what_was_taken_out_and_nothing_else(tmp_path: Path, studio: Studio) -> None:
    show = tmp_path / "show"
    make_podcast(show, SPEC)
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        make_podcast(show, replace(SPEC, retitle=frozenset({3}), revision=1))
        await studio.update(origin.feed_url)
        before = {one.guid: one for one in await studio.archive.items()}
        make_podcast(show, replace(GONE, revision=2))
        report = await studio.update(origin.feed_url, removed=RemovedPolicy.PURGE)
        assert (report.taken_out, report.aged_out, report.purged, report.episodes) == (1, 1, 1, 4)
        after = {one.guid: one for one in await studio.archive.items()}
        (guid,) = before.keys() - after.keys()
        gone = before[guid]
        paths = {str(one.path) for one in gone.assets if one.role == "enclosure"}
        left = {entry.path async for entry in studio.drive.entries()}
        assert not left & {gone.path, *paths}
        assert not await bytes_here(studio, f">{guid}<".encode())  # nor in its older version
        for item in after.values():
            assert await studio.archive.item_xml(item)
            for asset in item.assets:  # shared pictures among them
                data = await studio.drive.get(str(asset.path))
                assert data is not None
                assert sha256(data).hexdigest() == asset.sha256
        info = await studio.archive.info()
        assert (info.items, info.media_files) == (4, report.media_files)
        changes = [one async for one in FeedHistory(studio.drive).changes()]
        assert [one.item.guid for one in changes if one.what is What.PURGED and one.item] == [guid]
        assert guid in {one.guid for one in await FeedHistory(studio.drive).items_ever()}
        length = studio.db.length
        assert not (await studio.update(origin.feed_url, removed=RemovedPolicy.PURGE)).wrote
        assert studio.db.length == length
        make_podcast(show, replace(SPEC, revision=3))
        report = await studio.update(origin.feed_url, removed=RemovedPolicy.PURGE)
        assert (report.new, report.changed) == (1, 1)  # who comes back is new, its file is fetched again
        writer = await FeedWriter.open(studio.drive)
        assert (report.media_files, report.media_bytes) == (len(writer.media), writer.media_bytes)


async def test_a_purge_that_was_interrupted_is_done_again(
    tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mirrored(studio, tmp_path / "show")

    async def killed(drive: object, paths: object) -> None:
        raise RuntimeError("killed")

    with Origin(tmp_path / "show") as origin:
        with monkeypatch.context() as patch:
            patch.setattr("p2prss.feed.archive.purge.forget_files", killed)
            with pytest.raises(RuntimeError):
                await studio.update(origin.feed_url, removed=RemovedPolicy.PURGE)
        assert len(await studio.archive.items()) == 5
        report = await studio.update(origin.feed_url, removed=RemovedPolicy.PURGE)
        assert (report.purged, len(await studio.archive.items())) == (1, 4)


async def test_files_that_others_have_are_not_its_own(tmp_path: Path, studio: Studio) -> None:
    await mirrored(studio, tmp_path / "show")
    items = await studio.archive.items()
    (gone,) = [one for one in items if one.is_taken_out]
    twin = ArchivedItem("/items/20200101T000000Z-0000000000000000.xml", "0" * 16, gone.record)
    assert own_paths([gone], items, ()) > {gone.path}
    assert own_paths([gone], [*items, twin], ()) == {gone.path}
    assert own_paths([gone], items, gone.assets) == {gone.path}


async def test_a_word_of_a_later_version_means_keep(tmp_path: Path, studio: Studio) -> None:
    await mirrored(studio, tmp_path / "show")
    text = await studio.drive.get(INFO_PATH) or b""
    assert b'"removed"' not in text
    async with studio.drive.batch() as batch:
        await batch.put(INFO_PATH, text.replace(b"{", b'{"removed":"fold",', 1))
    assert len(await served(studio)) == 5
