"""Examples of chapters 6 and 8: drives and feeds."""

import json
from datetime import datetime
from hashlib import sha256

import trio

from p2prss.codec.compact import Reader
from p2prss.crypto.keys import CoreKey
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import Blobs
from p2prss.drive.block_map import decode_block_map
from p2prss.drive.btree import Header
from p2prss.drive.content import content_core, content_manifest
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.extension import Get, encode_hint
from p2prss.drive.legacy_rss import LegacyFeed, LegacyKeys, encode_base64url
from p2prss.feed.archive import records
from p2prss.feed.archive.legacy_rss import read_record, render_item
from p2prss.feed.model import item_id
from p2prss.feed.origin.rhythm import next_look
from p2prss.feed.sources.folder import address_of
from p2prss.feed.sources.show import new_guid
from p2prss.log.manifest import Manifest, core_key
from tests.fakes.memory_core import MemoryCore, as_core
from tests.spec.reading import Given, Outputs, example


@example("bee")
def _bee(given: Given) -> Outputs:
    core = MemoryCore()

    async def write() -> None:
        bee = Bee(as_core(core))
        for word in given.words("operations"):
            key, equals, value = word.partition("=")
            if equals:
                await bee.put(key.encode(), value.encode())
            else:
                await bee.delete(key.removeprefix("-").encode())

    trio.run(write)
    return {f"block {number}": block for number, block in enumerate(core.blocks)}


@example("drive")
def _drive(given: Given) -> Outputs:
    manifest = Manifest.decode(Reader(given.hex("db manifest")))
    db = MemoryCore(key=core_key(manifest), manifest=manifest)
    blobs = MemoryCore()
    opened: list[CoreKey] = []

    async def open_core(key: CoreKey, _: Manifest | None) -> Core:
        opened.append(key)
        return as_core(blobs)

    async def write() -> None:
        drive = Drive(as_core(db), open_core)
        metadata = json.loads(given.text("metadata"))
        await drive.put(given.text("path"), given.text("content").encode(), metadata=metadata)

    trio.run(write)
    derived = content_manifest(manifest, db.key)
    assert opened == [core_key(derived)] == [content_core(Header(), db.key, manifest)[0]]
    return {
        "drive key": db.key,
        "blobs manifest": derived.encode(),
        "blobs key": opened[0],
        "db block 0": db.blocks[0],
        "db block 1": db.blocks[1],
        "blobs block 0": blobs.blocks[0],
    }


@example("block map")
def _block_map(given: Given) -> Outputs:
    pairs = decode_block_map(given.hex("block"))
    return {"pairs": " ".join(f"{index}:{size}" for index, size in pairs)}


@example("hint")
def _hint(given: Given) -> Outputs:
    return {"payload": encode_hint(Get(given.number("version"), given.text("key").encode()))}


# ---- 08 feeds


@example("folder guid")
def _folder_guid(given: Given) -> Outputs:
    path = given.text("path")
    return {"guid": new_guid(path), "address": address_of(path)}


@example("next look")
def _next_look(given: Given) -> Outputs:
    dates = [datetime.fromisoformat(text) for text in given.text("dates").split()]
    return {"seconds": round(next_look(dates, datetime.fromisoformat(given.text("now"))))}


@example("item path")
def _item_path(given: Given) -> Outputs:
    seen_at = datetime.fromisoformat(given.text("date"))
    guid = given.text("guid")
    return {"id": item_id(guid), "path": records.item_path(guid, seen_at)}


@example("hyper-rss")
def _hyper_rss(given: Given) -> Outputs:
    keys = {name: given.hex(f"{name} key") for name in ("keys", "feed", "blobKeys", "blobs")}
    named = {name: encode_base64url(key) for name, key in keys.items() if name != "keys"}
    block = json.dumps({"keys": named}, separators=(",", ":"))
    found = LegacyKeys.decode(block.encode(), CoreKey(keys["keys"]))
    assert [found.feed, found.blob_keys, found.blobs] == [keys[name] for name in named]
    content = given.text("content").encode()
    file_name = f"{encode_base64url(sha256(content).digest())}.{given.text('rest of name')}"
    guid, value = given.text("guid"), given.text("item").replace("NAME", file_name)
    feed, names, blobs = MemoryCore(), MemoryCore(), MemoryCore()

    async def write_and_read() -> tuple[str, str, str]:
        blob = await Blobs(as_core(blobs)).put(content)
        numbers = {
            "byteOffset": 0,
            "blockOffset": 0,
            "blockLength": blob.block_length,
            "byteLength": len(content),
        }
        packed = json.dumps(numbers, separators=(",", ":")).encode()
        await Bee(as_core(names)).put(file_name.encode(), packed)
        bee = Bee(as_core(feed))
        await bee.put(b"order\x00000000", guid.encode())
        await bee.put(b"key\0" + guid.encode(), value.encode())
        await bee.put(b"metadata\0title", json.dumps(given.text("title")).encode())
        reader = LegacyFeed(as_core(feed), as_core(names), as_core(blobs))
        (item,) = [one async for one in reader.items()]
        file = await reader.file(file_name)
        assert item is not None
        assert file is not None
        record = read_record(item, {file_name: file})
        assert record is not None
        path = records.item_path(guid, record.first_seen)
        return path, record.assets[0].path or "", render_item(item, record).decode()

    item_path, media_path, xml = trio.run(write_and_read)
    return {
        "shared": encode_base64url(keys["keys"]),
        "keys block 0": block,
        "file name": file_name,
        "blobKeys block 1": names.blocks[1],
        **{f"feed block {number}": one for number, one in enumerate(feed.blocks)},
        "item path": item_path,
        "media path": media_path,
        "item xml": xml,
    }
