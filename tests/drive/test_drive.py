"""Drives: what their writers may do to them, in good faith and in bad."""

from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId, Held
from p2prss.drive.btree import BeeEntry, Header
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.entry import MAX_JSON_DEPTH, decode_entry, encode_value
from p2prss.drive.errors import DriveError
from p2prss.drive.paths import MAX_PATH_SIZE, normalize_path, stored_path
from p2prss.drive.reader import FILES
from p2prss.errors import LocalProtocolError, UsageError
from p2prss.log.manifest import Manifest, core_key
from tests.fakes.memory_core import MemoryCore

MANIFEST = Manifest.single(KeyPair.from_seed(bytes(32)).public_key)


class World:
    """A drive's two cores, and who opened them."""

    def __init__(self, *, writable: bool = True) -> None:
        self.db = MemoryCore(key=core_key(MANIFEST), manifest=MANIFEST, writable=writable)
        self.blobs = MemoryCore(writable=writable)
        self.opened: list[CoreKey] = []

    async def open_core(self, key: CoreKey, manifest: Manifest | None) -> Core:
        self.opened.append(key)
        return self.blobs

    async def drive(self) -> Drive:
        return await Drive.open(self.db, self.open_core)


async def hostile_drive(key: bytes, value: bytes) -> Drive:
    world = World()
    await Bee(world.db, header=Header()).put(FILES.key(key), value)
    return await world.drive()


async def test_bytes_are_durable_before_the_entry_that_names_them() -> None:
    world = World()
    drive = await world.drive()
    async with drive.batch() as batch:
        for number in range(5):
            await batch.put(f"/file-{number}", b"content")
            assert world.blobs.length == number + 1
            assert world.db.length == 0
    assert world.db.appends == [6]
    assert [entry.path async for entry in drive.list()] == [f"/file-{number}" for number in range(5)]


async def test_a_failed_batch_leaves_the_entries_alone() -> None:
    world = World()
    drive = await world.drive()

    async def failing() -> None:
        async with drive.batch() as batch:
            await batch.put("/a", b"content")
            batch.delete("/../b")

    with pytest.raises(UsageError):
        await failing()
    assert world.db.length == 0


async def test_metadata_that_is_no_json_is_refused_before_bytes_are_written() -> None:
    world = World()
    drive = await world.drive()
    for metadata in (object(), "\ud800"):
        with pytest.raises(UsageError):
            await drive.put("/a", b"content", metadata=metadata)
    assert world.blobs.length == 0


async def test_equal_bytes_can_be_named_twice() -> None:
    drive = await World().drive()
    blob = await drive.put("/a", b"content")
    async with drive.batch() as batch:
        batch.put_entry("/b", blob, metadata={"copy": True})
    assert await drive.get("/b") == b"content"
    entry = await drive.entry("/b")
    assert entry is not None
    assert entry.metadata == {"copy": True}


async def test_clear_forgets_bytes_and_download_brings_them_back() -> None:
    world = World()
    drive = await world.drive()
    await drive.put("/a", bytes(200_000))
    assert await drive.held("/a") == Held(4, 4)
    await drive.clear("/a")
    assert await drive.held("/a") == Held(0, 4)
    await drive.download("/a")
    assert await drive.held("/a") == Held(4, 4)


async def test_a_folder_does_not_hide_its_neighbours() -> None:
    drive = await World().drive()
    async with drive.batch() as batch:
        for path in ("/X", "/X-y", "/X/1", "/X/2", "/X0", "/X0/3", "/XX"):
            batch.symlink(path, "/nowhere")
    assert await drive.readdir("/") == ["X", "X-y", "X0", "XX"]
    assert [entry.path async for entry in drive.list("/X")] == ["/X/1", "/X/2"]
    assert await drive.readdir("/absent") == []


async def test_links_in_a_circle_end() -> None:
    drive = await World().drive()
    await drive.symlink("/a", "/b")
    await drive.symlink("/b", "../a")
    with pytest.raises(DriveError, match="symbolic links"):
        await drive.entry("/a", follow=True)
    for number in range(17):
        await drive.symlink(f"/{number}", f"/{number + 1}")
    await drive.put("/17", b"the end")
    assert await drive.get("/1", follow=True) == b"the end"  # 16 links
    with pytest.raises(DriveError):
        await drive.get("/0", follow=True)


async def test_a_link_out_of_the_drive_is_an_error() -> None:
    drive = await World().drive()
    await drive.symlink("/a", "../../etc/passwd")
    with pytest.raises(DriveError, match="leads"):
        await drive.entry("/a", follow=True)


async def test_a_reader_waits_for_the_first_block() -> None:
    world = World(writable=False)
    drive = await world.drive()
    assert world.opened == []
    assert [entry async for entry in drive.list()] == []
    opened = trio.Event()

    async def wait_for_blobs() -> None:
        await drive.blobs()
        opened.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_blobs)
        await trio.testing.wait_all_tasks_blocked()
        assert not opened.is_set()
        async with world.db.write_lock:
            await world.db.append([Header(content_feed=bytes(range(32))).encode()])
    assert world.opened == [CoreKey(bytes(range(32)))]  # what block 0 says wins


async def test_waiting_for_a_new_version() -> None:
    drive = await World().drive()
    seen: list[int] = []

    async def wait() -> None:
        seen.append(await drive.wait_changed(drive.version))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await drive.put("/a", b"")
    assert seen == [2]


async def test_the_drive_of_others_is_not_written() -> None:
    drive = await World(writable=False).drive()
    with pytest.raises(LocalProtocolError):
        await drive.put("/a", b"")
    assert (await World().drive()).writable
    assert not drive.writable


async def test_a_log_without_a_blobs_core_is_no_drive() -> None:
    db = MemoryCore([Header().encode()], key=bytes(32), writable=False)
    with pytest.raises(DriveError, match="no drive"):
        await Drive.open(db, World().open_core)
    db = MemoryCore([Header(content_feed=b"short").encode()], key=bytes(32), writable=False)
    with pytest.raises(DriveError):
        await Drive.open(db, World().open_core)
    with pytest.raises(DriveError):
        await Drive.open(MemoryCore([b"anything"], writable=False), World().open_core)


async def test_a_file_larger_than_wanted_is_not_gathered() -> None:
    drive = await World().drive()
    await drive.put("/a", bytes(1000))
    with pytest.raises(DriveError, match="more than 999"):
        await drive.get("/a", max_bytes=999)
    with pytest.raises(UsageError):
        async with aclosing(drive.read("/absent")) as pieces:
            await anext(pieces)


BLOB = '{"blockOffset":0,"byteOffset":0,"blockLength":0,"byteLength":0'


async def test_a_listing_can_go_on_past_malformed_entries() -> None:
    drive = await hostile_drive(b"/b", b"{")
    bee = Bee(drive.db)
    await bee.put(FILES.key(b"/a/../c"), b"null")
    for path in ("/a", "/z/deep"):
        await drive.put(path, b"content")
    errors: list[DriveError] = []
    assert [entry.path async for entry in drive.list(on_malformed=errors.append)] == ["/a", "/z/deep"]
    assert len(errors) == 2
    assert [entry.path async for entry in drive.entries(on_malformed=errors.append)] == ["/a", "/z/deep"]
    with pytest.raises(DriveError):
        [entry async for entry in drive.list()]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "{",
        "[]",
        "1",
        '{"blob":5}',
        '{"blob":{}}',
        '{"linkname":5}',
        '{"executable":"yes"}',
        '{"blob":' + BLOB.replace("0", "-1", 1) + "}}",
        '{"blob":' + BLOB.replace("0", "1.5", 1) + "}}",
        '{"blob":' + BLOB.replace("0", "1e3", 1) + "}}",
        '{"blob":' + BLOB.replace("0", "NaN", 1) + "}}",
        '{"blob":' + BLOB.replace("0", str(2**53), 1) + "}}",
        '{"blob":' + BLOB + "000000}}",
        '{"blob":' + BLOB.replace('"byteLength":0', '"byteLength":1') + "}}",
        '{"metadata":NaN}',
        '{"metadata":' + "[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1) + "}",
        '{"metadata":' + "[" * 100_000,
        '{"metadata":"' + '\\"' * 100_000 + "[" * 100,
        '{"metadata":' + "9" * 100_000 + "}",
    ],
    ids=lambda value: value[:60],
)
async def test_malformed_values_are_refused(value: str) -> None:
    drive = await hostile_drive(b"/a", value.encode())
    with pytest.raises(DriveError):
        await drive.entry("/a")
    with pytest.raises(DriveError):
        await anext(drive.list())


@pytest.mark.parametrize("value", ["{}", '{"blob":null,"linkname":null,"more":[1,{"x":2}]}'])
async def test_missing_members_are_null(value: str) -> None:
    drive = await hostile_drive(b"/a", value.encode())
    entry = await drive.entry("/a")
    assert entry is not None
    assert (entry.blob, entry.linkname, entry.executable, entry.metadata) == (None, None, False, None)


async def test_half_characters_of_javascript_are_mended() -> None:
    drive = await hostile_drive(b"/a", rb'{"metadata":{"title":"cut \ud83d","whole":"\ud83d\ude00 \\ud83d"}}')
    entry = await drive.entry("/a")
    assert entry is not None
    assert entry.metadata == {"title": "cut \ufffd", "whole": "\U0001f600 \\ud83d"}


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"/",
        b"noslash",
        b"/a//b",
        b"/a/",
        b"/../x",
        b"/a/../b",
        b"/./a",
        b"/a\\b",
        b"/\xff",
        b"/" + b"x" * 5000,
    ],
    ids=lambda key: repr(key[:20]),
)
async def test_keys_that_are_no_paths_are_refused(key: bytes) -> None:
    drive = await hostile_drive(key, b"{}")
    with pytest.raises(DriveError):
        await anext(drive.entries())


@given(st.text(max_size=30) | st.text(alphabet="/\\.:aC", max_size=12))
def test_a_normal_path_is_its_own_normal_form(path: str) -> None:
    try:
        normal = normalize_path(path)
    except UsageError:
        return
    assert normalize_path(normal) == normal == stored_path(normal.encode())
    assert len(normal.encode()) <= MAX_PATH_SIZE
    assert not {"", ".", ".."} & set(normal[1:].split("/"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(JSON, st.booleans(), st.none() | st.text(st.characters(codec="utf-8"), max_size=20), st.booleans())
def test_entries_come_back(metadata: Any, executable: bool, linkname: str | None, mapped: bool) -> None:
    blob = BlobId(1, 2, 3, 4, block_map=mapped)
    value = encode_value(blob, linkname=linkname, executable=executable, metadata=metadata)
    entry = decode_entry(BeeEntry(7, b"files\0/a", value), b"/a")
    assert entry.blob == blob
    assert (entry.seq, entry.path, entry.linkname, entry.executable) == (7, "/a", linkname, executable)
    assert entry.metadata == metadata


@given(
    st.binary()
    | st.text().map(lambda text: msgspec.json.encode({"metadata": text.encode("utf-8", "replace").decode()}))
)
def test_any_value_is_an_entry_or_a_drive_error(value: bytes) -> None:
    try:
        decode_entry(BeeEntry(1, b"", value), b"/a")
    except DriveError:
        return
