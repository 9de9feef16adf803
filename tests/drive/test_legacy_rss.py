"""A feed of hyper-rss, made of plain bees and blobs on compat cores, reads with our parts."""

import json
from pathlib import Path
from typing import Any

from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId, Blobs
from p2prss.drive.key_range import Sub
from tests.fakes.memory_core import MemoryCore

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
