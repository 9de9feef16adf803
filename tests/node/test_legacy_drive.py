"""A feed's kind is found out from its first block, and a feed of hyper-rss looks like any other."""

import json
from typing import cast

import pytest
import trio
import trio.testing

from p2prss.crypto.keys import CoreKey
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import Blobs
from p2prss.drive.errors import DriveError
from p2prss.drive.legacy_rss import encode_base64url
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.archive import FeedArchive
from p2prss.log.manifest import Manifest, core_key
from p2prss.net.core import PeerCore
from p2prss.node.legacy_drive import AnyDrive
from tests.fakes.memory_core import MemoryCore, as_core
from tests.fakes.studio import MANIFEST

NAMES = ("feed", "blobKeys", "blobs")
KEYS = {name: bytes([number]) * 32 for number, name in enumerate(("keys", *NAMES), 1)}
NAMED = json.dumps({"keys": {name: encode_base64url(KEYS[name]) for name in NAMES}}).encode()
AUDIO = bytes(range(256)) * 400
DIGEST = b"\xab" * 32
PATH = f"/media/ab/{DIGEST.hex()}.mp3"


class Legacy:
    """The four logs of a feed, in memory."""

    def __init__(self) -> None:
        self.cores = {name: MemoryCore(key=key) for name, key in KEYS.items()}
        self.cores["keys"].writable = False
        self.feed, self.names = (Bee(as_core(self.cores[name])) for name in ("feed", "blobKeys"))
        self.opened: list[bytes] = []
        self.drive = AnyDrive(cast(PeerCore, self.cores["keys"]), self._open_core)

    async def _open_core(self, key: CoreKey, manifest: Manifest | None) -> PeerCore:
        await trio.lowlevel.checkpoint()
        assert manifest is None
        self.opened.append(key)
        return cast(PeerCore, next(core for core in self.cores.values() if core.key == key))

    async def add_first_block(self, block: bytes = NAMED) -> None:
        keys = self.cores["keys"]
        async with keys.write_lock:
            await keys.append([block])

    async def add_item(self, number: int, guid: str, value: bytes) -> None:
        await self.feed.put(b"order\0%06d" % number, guid.encode())
        await self.feed.put(b"key\0" + guid.encode(), value)

    async def add_audio(self) -> str:
        blob = await Blobs(as_core(self.cores["blobs"])).put(AUDIO)
        name = f"{encode_base64url(DIGEST)}.mp3"
        packed = {
            "byteOffset": 0,
            "blockOffset": 0,
            "blockLength": blob.block_length,
            "byteLength": len(AUDIO),
        }
        await self.names.put(name.encode(), json.dumps(packed).encode())
        return name


@pytest.fixture
async def legacy() -> Legacy:
    return Legacy()


async def test_until_the_first_block_is_here_it_is_an_empty_drive(legacy: Legacy) -> None:
    assert legacy.drive.version == 1
    assert await legacy.drive.entry("/p2prss.json") is None
    assert [entry async for entry in legacy.drive.entries()] == []
    with trio.move_on_after(0.01) as scope:
        await legacy.drive.blobs()
    assert scope.cancelled_caught
    await legacy.add_first_block()
    assert (await legacy.drive.blobs()).core is legacy.cores["blobs"]
    assert legacy.opened == [KEYS[name] for name in NAMES]


async def test_it_looks_like_feed_format_1(legacy: Legacy) -> None:
    await legacy.add_first_block()
    name = await legacy.add_audio()
    await legacy.add_item(0, "old", b'{"title":"Old","isoDate":"2024-01-02T00:00:00Z"}')
    await legacy.add_item(1, "new", json.dumps({"title": "New", "enclosure": {"url": name}}).encode())
    await legacy.feed.put(b"metadata\0title", b'"A show"')
    archive = FeedArchive(legacy.drive)
    assert (await archive.info()).title == "A show"
    assert [item.title for item in await archive.items()] == ["New", "Old"]
    assert [(a.path, a.byte_length) for a in (await archive.items())[0].assets] == [(PATH, len(AUDIO))]
    assert b"<title>New</title>" in await archive.item_xml((await archive.items())[0])
    assert await legacy.drive.size(PATH) == len(AUDIO)
    assert (
        b"".join([piece async for piece in legacy.drive.read(PATH, 65_530, 65_545)]) == AUDIO[65_530:65_545]
    )
    assert await legacy.drive.get(PATH) == AUDIO
    held = await legacy.drive.held(PATH)
    assert (held.blocks, held.total) == (2, 2)
    paths = [entry.path async for entry in legacy.drive.entries()]
    assert sorted(paths) == sorted([PATH, *(item.path for item in await archive.items())])
    for odd in ("/", "/media/ac/" + PATH[10:], "/media/ab/x.mp3", "/items/x.xml", "/feed.xml"):
        assert await legacy.drive.entry(odd) is None


async def test_what_is_added_is_news(legacy: Legacy) -> None:
    drive, seen = legacy.drive, list[int]()
    archive = FeedArchive(drive)

    async def watch() -> None:
        seen.append(drive.version)
        while True:
            seen.append(await drive.wait_changed(seen[-1]))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            await legacy.add_first_block()
            await drive.entry("/p2prss.json")
            await trio.testing.wait_all_tasks_blocked()
            for number in range(3):
                await legacy.add_item(number, f"g{number}", b'{"title":"t"}')
                await trio.testing.wait_all_tasks_blocked()
                assert len(await archive.items()) == number + 1
                assert seen[-1] == drive.version
            await legacy.add_audio()
            await trio.testing.wait_all_tasks_blocked()
            assert seen[-1] == drive.version
            nursery.cancel_scope.cancel()
    assert seen == sorted(set(seen))


async def test_items_that_make_no_sense_are_left_out_and_counted(legacy: Legacy) -> None:
    await legacy.add_first_block()
    await legacy.add_item(0, "good", b'{"title":"Good"}')
    await legacy.add_item(1, "bad", b"no json")
    await legacy.feed.put(b"order\x00000002", b"good")  # twice
    await legacy.feed.put(b"order\x00000003", b"missing")
    await legacy.add_item(4, "x" * 5000, b"{}")
    archive = FeedArchive(legacy.drive)
    assert [item.guid for item in await archive.items()] == ["good"]
    assert archive.skipped == 4
    (item,) = await archive.items()
    await legacy.feed.put(b"key\0good", b"null")
    with pytest.raises(FeedFormatError):
        await archive.item_xml(item)


@pytest.mark.parametrize("block", [b"{}", b"{" * 3000, b"hello", b"", NAMED.replace(b"keys", b"kies")])
async def test_another_log_is_no_feed(legacy: Legacy, block: bytes) -> None:
    await legacy.add_first_block(block)
    with pytest.raises(DriveError):
        await legacy.drive.blobs()
    with pytest.raises((DriveError, FeedFormatError)):
        await FeedArchive(legacy.drive).info()
    assert legacy.opened == []


async def test_a_malformed_bee_is_a_drive_error(legacy: Legacy) -> None:
    await legacy.add_first_block()
    feed = legacy.cores["feed"]
    async with feed.write_lock:
        await feed.append([b"\x0a\x08hyperbee", b"\xff\xff"])
    for ask in (
        FeedArchive(legacy.drive).info,
        FeedArchive(legacy.drive).items,
        FeedArchive(legacy.drive).channel,
    ):
        with pytest.raises(DriveError):
            await ask()


async def test_a_drive_stays_a_drive() -> None:
    blobs = MemoryCore()

    async def open_core(*_: object) -> PeerCore:
        await trio.lowlevel.checkpoint()
        return cast(PeerCore, blobs)

    db = MemoryCore(key=core_key(MANIFEST), manifest=MANIFEST)
    await AnyDrive(cast(PeerCore, db), open_core).put("/a", b"abc")
    db.writable = False
    copy = AnyDrive(cast(PeerCore, db), open_core)
    assert await copy.get("/a") == b"abc"
    assert [entry.path async for entry in copy.list("/")] == ["/a"]
    assert copy.version == 2
