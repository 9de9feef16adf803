"""A feed of hyper-rss, made of plain bees and blobs on compat cores, reads with our parts."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import CoreKey
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId, Blobs
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import Sub
from p2prss.drive.legacy_rss import (
    LegacyFeed,
    LegacyFile,
    LegacyItem,
    LegacyKeys,
    encode_base64url,
    file_hash,
    parse_base64url_key,
)
from p2prss.units import KIB
from tests.fakes.memory_core import MemoryCore, as_core

LEGACY = json.loads((Path(__file__).parents[1] / "vectors" / "drive.json").read_text())["legacy_rss"]


def core(name: str) -> MemoryCore:
    def content(block: str | dict[str, Any]) -> bytes:
        if isinstance(block, str):
            return bytes.fromhex(block)
        return bytes(i & 255 for i in range(block["from"], block["from"] + block["length"]))

    recorded = LEGACY["cores"][name]
    made = MemoryCore([content(block) for block in recorded["blocks"]], key=bytes.fromhex(recorded["key"]))
    assert (made.length, made.byte_length) == (recorded["length"], recorded["byte_length"])
    return made


async def test_items_newest_first() -> None:
    bee = Bee(core("feed"))
    order, items = Sub.named(b"order"), Sub.named(b"key")
    found = []
    async for entry in bee.range(order.inner_range(), reverse=True):
        item = await bee.get(items.key(entry.value or b""))
        if item is not None and item.value is not None:
            number, key = int(order.strip(entry.key)), items.strip(item.key).decode()
            found.append({"orderIndex": number, "key": key, "seq": item.seq, "value": item.value.decode()})
    assert found == LEGACY["feed"]


async def test_metadata() -> None:
    bee, metadata = Bee(core("feed")), Sub.named(b"metadata")
    for name, wanted in LEGACY["metadata"].items():
        entry = await bee.get(metadata.key(name.encode()))
        assert (json.loads(entry.value) if entry is not None and entry.value else None) == wanted


async def test_the_same_puts_write_the_same_feed() -> None:
    recorded, written = core("feed"), MemoryCore()
    source, copy = Bee(recorded), Bee(written)
    async for change in source.history():
        await copy.put(change.entry.key, change.entry.value)
    assert written.blocks == recorded.blocks


async def test_blobs() -> None:
    names, blobs = Bee(core("blobKeys")), Blobs(core("blobs"))
    found = {}
    async for entry in names.range():
        found[entry.key.decode()] = json.loads(entry.value or b"")
    assert found == LEGACY["blob_ids"]
    ids = {
        name: BlobId(b["blockOffset"], b["byteOffset"], b["blockLength"], b["byteLength"])
        for name, b in found.items()
    }
    audio = b"".join([piece async for piece in blobs.read(ids["aGFzaDE.mp3"])])
    assert audio == bytes(i & 255 for i in range(70_000))
    part = b"".join([piece async for piece in blobs.read(ids["aGFzaDE.mp3"], 65_534, 65_540)])
    assert part.hex() == LEGACY["range_test"]


def feed() -> LegacyFeed:
    return LegacyFeed(*(as_core(core(name)) for name in ("feed", "blobKeys", "blobs")))


def test_the_first_log_names_the_others() -> None:
    keys = LegacyKeys.decode(core("keys").blocks[0], core("keys").key)
    wanted = [bytes.fromhex(LEGACY["cores"][name]["key"]) for name in ("feed", "blobKeys", "blobs")]
    assert [keys.feed, keys.blob_keys, keys.blobs] == wanted
    assert parse_base64url_key(LEGACY["share_string"]) == core("keys").key


async def test_the_reader_gives_what_was_recorded() -> None:
    read = feed()
    wanted = [LegacyItem(one["key"], json.loads(one["value"]), one["orderIndex"]) for one in LEGACY["feed"]]
    assert [item async for item in read.items()] == wanted
    assert await read.item("urn:x:2") == wanted[1]._replace(number=0)
    assert await read.item("urn:x:9") is None
    for name, text in LEGACY["metadata"].items():
        assert await read.metadata(name) == (text or "")
    assert read.version == 10 + 3 - 1
    assert await read.file("aGFzaDE.mp3") is None  # the name promises no hash


def keys_block(**names: str) -> bytes:
    good = {"feed": "A" * 43, "blobKeys": "B" * 42 + "A", "blobs": "C" * 42 + "A"} | names
    return json.dumps({"keys": good}).encode()


def test_a_block_of_keys() -> None:
    keys = LegacyKeys.decode(keys_block(), CoreKey(b"k" * 32))
    assert keys.feed == bytes(32)


@pytest.mark.parametrize(
    "block",
    [
        b"{}",
        b"{",
        b'{"keys":{}}',
        b'{"keys":' + b"[" * 3000,
        keys_block(feed="A" * 42),
        keys_block(feed="A" * 43 + "="),
        keys_block(feed="A" * 42 + "B"),  # bits behind the key
        keys_block(feed="+" * 43),
        keys_block(feed="\u00e9" * 43),
        keys_block(feed="C" * 42 + "A"),  # one log twice
        keys_block(feed=encode_base64url(b"k" * 32)),  # the first log itself
        keys_block(other=5 * KIB * "x"),
    ],
)
def test_a_bad_block_of_keys(block: bytes) -> None:
    with pytest.raises(DriveError, match="no feed"):
        LegacyKeys.decode(block, CoreKey(b"k" * 32))


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_block_of_keys_gives_keys_or_a_drive_error(block: bytes) -> None:
    with suppress(DriveError):
        LegacyKeys.decode(block, CoreKey(b"k" * 32))


@given(st.text(max_size=60))
def test_any_name_has_a_hash_or_none(name: str) -> None:
    digest = file_hash(name)
    assert digest is None or name.startswith(encode_base64url(digest))


async def written(**puts: bytes | None) -> LegacyFeed:
    """A feed whose feed log got these puts; ``_`` stands for the separator of a sub."""
    log = MemoryCore()
    bee = Bee(as_core(log))
    for key, value in puts.items():
        await bee.put(key.replace("_", "\0", 1).encode(), value)
    return LegacyFeed(as_core(log), as_core(MemoryCore()), as_core(MemoryCore()))


@given(st.binary(max_size=200) | st.none())
async def test_any_value_of_an_item(value: bytes | None) -> None:
    read = await written(order_000000=b"a", key_a=value, order_000001=b"b", key_b=b'{"title":"b"}')
    found = [item async for item in read.items()]
    assert found[0] == LegacyItem("b", {"title": "b"}, 1)
    assert found[1] is None or found[1].guid == "a"


@pytest.mark.parametrize(
    "value", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"NaN", b'"\\ud800', b"\xff"]
)
async def test_json_that_is_none_is_passed_over(value: bytes) -> None:
    read = await written(order_000000=b"a", key_a=value, metadata_title=value)
    assert [item async for item in read.items()] == [None]
    assert await read.metadata("title") == ""


async def test_a_number_without_its_item_and_odd_numbers() -> None:
    read = await written(order_000000=b"a", key_a=b"{}", order_000001=b"later", order_x=b"a", order_y=b"\xff")
    assert [item async for item in read.items()] == [
        None,
        LegacyItem("a", {}, 0),
        None,
        LegacyItem("a", {}, 0),
    ]


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"null",
        b'{"byteOffset":0,"blockOffset":-1,"blockLength":1,"byteLength":1}',
        b'{"byteOffset":0,"blockOffset":0.5,"blockLength":1,"byteLength":1}',
        b'{"byteOffset":0,"blockOffset":0,"blockLength":1,"byteLength":9007199254740991}',
        b'{"byteOffset":0,"blockOffset":0,"blockLength":1,"byteLength":1,"blockMap":true}',
    ],
)
async def test_a_file_that_cannot_be_is_left_out(value: bytes) -> None:
    names = MemoryCore()
    bee, digests = Bee(as_core(names)), [bytes([number]) * 32 for number in range(3)]
    stems = [encode_base64url(digest) for digest in digests]
    await bee.put(f"{stems[0]}.mp3".encode(), value)
    await bee.put(b"no-hash.mp3", b'{"byteOffset":0,"blockOffset":0,"blockLength":1,"byteLength":1}')
    await bee.put(
        f"{stems[1]}.a/b?c".encode(), b'{"byteOffset":0,"blockOffset":2,"blockLength":1,"byteLength":7}'
    )
    read = LegacyFeed(as_core(MemoryCore()), as_core(names), as_core(MemoryCore()))
    good = LegacyFile(f"{stems[1]}.a/b?c", digests[1], BlobId(2, 0, 1, 7))
    assert [file async for file in read.files()] == [good]
    assert [await read.file_of(digest) for digest in digests] == [None, good, None]
    assert [await read.file(f"{stem}.mp3") for stem in stems] == [None, None, None]
    assert await read.file(good.name) == good
