"""Examples of chapters 6 and 8: drives and feeds."""

import json
from datetime import datetime

import trio

from p2prss.codec.compact import Reader
from p2prss.crypto.keys import CoreKey
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import decode_block_map
from p2prss.drive.btree import Header
from p2prss.drive.content import content_core, content_manifest
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.extension import Get, encode_hint
from p2prss.feed import model
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


@example("item path")
def _item_path(given: Given) -> Outputs:
    seen_at = datetime.fromisoformat(given.text("date"))
    guid = given.text("guid")
    return {"id": model.item_id(guid), "path": model.item_path(guid, seen_at)}
