"""Reading feed format 1 from a drive whose writer may mean harm."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.errors import DriveError
from p2prss.drive.reader import FILES
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.archive import FeedArchive, decode_info, read_item
from p2prss.feed.archive.records import item_path
from p2prss.feed.model import MAX_ASSETS, item_id
from p2prss.log.manifest import core_key
from tests.fakes.memory_core import MemoryCore, as_core
from tests.fakes.studio import MANIFEST

SEEN = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
SHA = "ab" * 32
PATH = item_path("guid", SEEN)
RECORD: dict[str, Any] = {"guid": "guid", "first_seen": "2024-01-02T03:04:05Z"}
ASSET: dict[str, Any] = {
    "role": "enclosure",
    "url": "https://a.example/1",
    "path": f"/media/ab/{SHA}.mp3",
    "sha256": SHA,
}
INFO = b'{"format":1,"created":"2024-01-01T00:00:00Z","updated":"2024-01-01T00:00:00Z"}'


@dataclass
class Entry:
    path: str
    metadata: Any


@dataclass
class FakeDrive:
    version: int = 1
    files: dict[str, tuple[bytes, Any]] = field(default_factory=dict)
    listed: int = 0

    async def list(
        self, folder: str = "/", *, reverse: bool = False, on_malformed: Callable[[DriveError], None]
    ) -> AsyncIterator[Entry]:
        self.listed += 1
        for path in sorted(self.files, reverse=reverse):
            if path.startswith(folder):
                yield Entry(path, self.files[path][1])

    async def get(self, path: str, *, max_bytes: int) -> bytes | None:
        return self.files[path][0] if path in self.files else None


def test_paths_sort_by_time_and_name_the_guid() -> None:
    assert f"/items/20240102T030405Z-{item_id('guid')}.xml" == PATH
    assert len(item_id("guid")) == 16


async def test_items_come_newest_first_and_are_read_once_per_version() -> None:
    drive = FakeDrive()
    for day in (1, 3, 2):
        path = item_path(str(day), SEEN.replace(day=day))
        drive.files[path] = (b"<item/>", RECORD | {"guid": str(day)})
    archive = FeedArchive(drive)
    assert [item.guid for item in await archive.items()] == ["3", "2", "1"]
    assert (await archive.items(), drive.listed) == (await archive.items(), 1)
    assert (found := await archive.item(item_id("2"))) is not None
    assert await archive.item_xml(found) == b"<item/>"
    assert await archive.item("0" * 16) is None
    drive.version = 2
    await archive.items()
    assert drive.listed == 2


async def test_an_entry_that_breaks_the_rules_is_left_out_and_counted() -> None:
    drive = FakeDrive()
    drive.files[PATH] = (b"<item/>", RECORD)
    drive.files["/items/readme.txt"] = (b"", None)
    drive.files[item_path("guid", SEEN.replace(year=2020))] = (b"<item/>", RECORD)  # an id twice
    archive = FeedArchive(drive)
    assert [item.path for item in await archive.items()] == [PATH]
    assert archive.skipped == 2


async def test_a_malformed_entry_does_not_hide_the_rest_of_a_feed() -> None:
    db = MemoryCore(key=core_key(MANIFEST), manifest=MANIFEST)

    async def open_core(key: object, manifest: object) -> Core:
        return as_core(MemoryCore())

    drive = Drive(as_core(db), open_core)
    async with drive.batch() as batch:
        batch.put_entry(PATH, BlobId(0, 0, 0, 0), metadata=RECORD)
    bee = Bee(as_core(db))
    await bee.put(FILES.key(item_path("bad", SEEN).encode()), b"[")
    await bee.put(FILES.key(b"/items/\xff"), b"null")
    archive = FeedArchive(drive)
    assert [item.guid for item in await archive.items()] == ["guid"]
    assert archive.skipped == 2


@pytest.mark.parametrize(
    ("path", "record"),
    [
        (PATH, None),
        (PATH, []),
        (PATH, {}),
        (PATH, {**RECORD, "guid": "other"}),
        (PATH, {**RECORD, "guid": ""}),
        (PATH, {**RECORD, "guid": 7}),
        (PATH, {**RECORD, "first_seen": "yesterday"}),
        (PATH, {**RECORD, "first_seen": "2024-01-02T03:04:05"}),
        (PATH, {**RECORD, "title": "x" * 1001}),
        (PATH, {**RECORD, "assets": [ASSET] * (MAX_ASSETS + 1)}),
        (PATH, {**RECORD, "assets": [{**ASSET, "path": "/media/../../etc/passwd"}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "path": f"/media/cd/{SHA}.mp3"}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "path": f"/media/ab/{SHA}.mp3\n"}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "sha256": "cd" * 32}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "sha256": None}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "byte_length": -1}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "byte_length": 2**60}]}),
        (PATH, {**RECORD, "assets": [{**ASSET, "url": "x" * 5000}]}),
        (PATH + "x", RECORD),
        ("/items/" + PATH, RECORD),
        (PATH.replace("Z-", "Z_"), RECORD),
    ],
)
def test_what_breaks_the_rules(path: str, record: object) -> None:
    assert read_item(path, record) is None


def test_unknown_members_and_roles_are_read_over() -> None:
    record = {**RECORD, "new": 1, "assets": [{**ASSET, "role": "hologram", "new": 2}]}
    found = read_item(PATH, record)
    assert found is not None
    assert found.assets[0].role == "hologram"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "broken"),
        (b"{}", "broken"),
        (b"[" * 100_000, "broken"),
        (INFO.replace(b":1", b":2", 1), "newer version"),
        (INFO.replace(b":1", b":0", 1), "broken"),
        (INFO.replace(b"}", b',"channel_assets":[{}]}'), "broken"),
        (b"\xff" + INFO, "broken"),
    ],
)
def test_bad_information_is_refused_in_one_line(data: bytes, text: str) -> None:
    with pytest.raises(FeedFormatError, match=text) as caught:
        decode_info(data)
    assert "\n" not in str(caught.value)


async def test_a_drive_that_is_no_feed_is_named_as_such() -> None:
    archive = FeedArchive(FakeDrive())
    with pytest.raises(FeedFormatError, match=r"no podcast feed: it has no /p2prss\.json"):
        await archive.info()
    with pytest.raises(FeedFormatError, match="channel"):
        await archive.channel()
    assert list(await archive.items()) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["guid", SHA]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*RECORD, *ASSET, "assets", "title", "removed_at"]), inner, max_size=6
        )
    ),
)


@given(JSON)
def test_any_metadata_is_an_item_or_nothing(metadata: object) -> None:
    read_item(PATH, metadata)


@given(st.binary())
def test_any_bytes_are_information_or_a_format_error(data: bytes) -> None:
    with pytest.raises(FeedFormatError):
        decode_info(data)
