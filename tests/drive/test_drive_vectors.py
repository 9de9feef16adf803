"""Drives recorded from the reference: the same steps write the same blocks, and they read alike."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from p2prss.codec.compact import Reader
from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace, derive_key_pair
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey
from p2prss.drive.blobs import BlobId, Blobs
from p2prss.drive.content import content_core, content_manifest
from p2prss.drive.core import Core, OpenCore
from p2prss.drive.drive import Drive, DriveBatch
from p2prss.drive.entry import DriveEntry
from p2prss.drive.errors import DriveError
from p2prss.drive.paths import normalize_path, resolve_link
from p2prss.drive.reader import DriveReader
from p2prss.errors import UsageError
from p2prss.log.manifest import Manifest, core_key
from tests.fakes.memory_core import MemoryCore

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "drive.json").read_text())
DRIVE = VECTORS["drive"]


def decode_manifest(text: str) -> Manifest:
    return Manifest.decode(Reader(bytes.fromhex(text)))


def block_bytes(block: str | dict[str, Any]) -> bytes:
    if isinstance(block, str):
        return bytes.fromhex(block)
    piece = bytes.fromhex(block["repeat"])
    content: bytes = (piece * (block["length"] // len(piece) + 1))[: block["length"]]
    assert sha256(content).hexdigest() == block["sha256"]
    return content


def opener(cores: dict[str, MemoryCore]) -> OpenCore:
    async def open_core(key: CoreKey, manifest: Manifest | None) -> Core:
        core = cores[key.hex()]
        assert manifest is None or core_key(manifest) == key
        return core

    return open_core


def recorded_cores() -> tuple[MemoryCore, MemoryCore]:
    db = MemoryCore(
        [bytes.fromhex(block) for block in DRIVE["db_blocks"]],
        key=bytes.fromhex(DRIVE["key"]),
        manifest=decode_manifest(DRIVE["db_manifest"]),
        writable=False,
    )
    blobs = MemoryCore([block_bytes(block) for block in DRIVE["blob_blocks"]], writable=False)
    return db, blobs


@pytest.fixture
def drive() -> Drive:
    db, blobs = recorded_cores()
    return Drive(db, opener({DRIVE["content_key"]: blobs}))


def fields(entry: DriveEntry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    blob = entry.blob
    value: dict[str, Any] = {"executable": entry.executable, "linkname": entry.linkname, "blob": None}
    if blob is not None:
        value["blob"] = {
            "blockOffset": blob.block_offset,
            "byteOffset": blob.byte_offset,
            "blockLength": blob.block_length,
            "byteLength": blob.byte_length,
        } | ({"blockMap": True} if blob.block_map else {})
    return {"seq": entry.seq, "key": entry.path, "value": value | {"metadata": entry.metadata}}


async def read(drive: DriveReader, path: str, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(drive.read(path, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("case", VECTORS["corestore"]["derived"], ids=lambda case: case["id"])
def test_corestore_names_lead_to_the_same_keys(case: dict[str, str]) -> None:
    namespace = ROOT_NAMESPACE
    for part in filter(None, case["namespace_path"].split("/")):
        raw = bytes.fromhex(part.removeprefix("bytes-")) if part.startswith("bytes-") else part.encode()
        namespace = child_namespace(namespace, raw)
    assert namespace.hex() == case["namespace"]
    primary_key = bytes.fromhex(VECTORS["corestore"]["primary_key"])
    pair = derive_key_pair(primary_key, namespace, case["name"])
    assert pair.public_key.hex() == case["public_key"]
    manifest = Manifest.single(pair.public_key)
    key = core_key(manifest)
    assert (manifest.encode().hex(), key.hex()) == (case["manifest"], case["key"])
    assert discovery_key(key).hex() == case["discovery_key"]
    assert core_key(content_manifest(manifest, key)).hex() == case["drive_content_key"]


def test_content_manifest_of_several_signers() -> None:
    case = VECTORS["content_manifest_multisig"]
    manifest = decode_manifest(case["manifest"])
    derived = content_manifest(manifest, CoreKey(bytes.fromhex(case["key"])))
    assert derived.encode().hex() == case["content_manifest"]
    assert core_key(derived).hex() == case["content_key"]


def test_content_key_of_the_recorded_drive() -> None:
    manifest = decode_manifest(DRIVE["db_manifest"])
    key, derived = content_core(None, CoreKey(bytes.fromhex(DRIVE["key"])), manifest)
    assert key.hex() == DRIVE["content_key"]
    assert discovery_key(key).hex() == DRIVE["content_discovery_key"]
    assert derived is not None
    assert derived.encode().hex() == DRIVE["content_manifest"]


@pytest.mark.parametrize("case", VECTORS["paths"], ids=lambda case: repr(case["in"]))
def test_paths(case: dict[str, Any]) -> None:
    if case["error"] is None:
        assert normalize_path(case["in"]) == case["normalized"]
    else:
        with pytest.raises(UsageError):
            normalize_path(case["in"])


@pytest.mark.parametrize("case", VECTORS["symlink_resolution"], ids=lambda case: case["linkname"])
def test_symlink_resolution(case: dict[str, Any]) -> None:
    if case["error"] is None:
        assert resolve_link(case["link"], case["linkname"]) == case["resolved"]
    else:
        with pytest.raises(DriveError):
            resolve_link(case["link"], case["linkname"])


async def apply(target: Drive | DriveBatch, step: dict[str, Any]) -> None:
    match step["op"]:
        case "put":
            if "data_repeat" in step:
                piece = bytes.fromhex(step["data_repeat"])
                data = (piece * (step["data_length"] // len(piece) + 1))[: step["data_length"]]
            else:
                data = bytes.fromhex(step["data"])
            await target.put(step["path"], data, **step.get("opts", {}))
        case "symlink":
            await call(target.symlink, step["path"], step["target"])
        case "del":
            await call(target.delete, step["path"])
        case _:
            raise AssertionError(step)


async def call(method: Callable[..., Awaitable[None] | None], *arguments: str) -> None:
    result = method(*arguments)
    if result is not None:
        await result


async def write_stream(drive: Drive, step: dict[str, Any]) -> None:
    """As the reference's write stream does: a block per write, with ``dedup`` a map of old and new blocks."""
    core = (await drive.blobs()).core
    old: dict[bytes, int] = {}
    before = await drive.entry(step["path"])
    if step["opts"].get("dedup") and before is not None and before.blob is not None:
        for start, stop in await Blobs(core).blocks(before.blob):
            old |= {await core.get(index): index for index in range(start, stop)}
    writes = [bytes.fromhex(write) for write in step["writes"]]
    async with core.write_lock:
        offset, byte_offset = core.length, core.byte_length
        listed: list[int] = []
        for write in writes:
            if not step["opts"].get("dedup") or write not in old:
                old[write] = await core.append([write])
            listed.append(old[write])
        blob = BlobId(offset, byte_offset, core.length - offset, core.byte_length - byte_offset)
        if step["opts"].get("dedup"):
            pairs = b"".join(bytes([index, len(write)]) for index, write in zip(listed, writes, strict=True))
            block = bytes([0, len(writes)]) + pairs
            offset, byte_offset = core.length, core.byte_length
            await core.append([block])
            blob = BlobId(offset, byte_offset, 1, len(block), block_map=True)
    async with drive.batch() as batch:
        batch.put_entry(step["path"], blob)


async def test_the_same_steps_write_the_same_blocks() -> None:
    db = MemoryCore(key=bytes.fromhex(DRIVE["key"]), manifest=decode_manifest(DRIVE["db_manifest"]))
    blobs = MemoryCore()
    drive = await Drive.open(db, opener({DRIVE["content_key"]: blobs}))
    for step in DRIVE["steps"]:
        assert drive.version == step.get("version_before", 1)
        if step["op"] == "batch":
            async with drive.batch() as batch:
                for inner in step["ops"]:
                    await apply(batch, inner)
        elif step["op"] == "write_stream":
            await write_stream(drive, step)
        elif step["op"] != "open":
            await apply(drive, step)
        assert drive.version == step["version_after"]
    assert [block.hex() for block in db.blocks] == DRIVE["db_blocks"]
    assert blobs.blocks == [block_bytes(block) for block in DRIVE["blob_blocks"]]
    assert (db.byte_length, blobs.byte_length) == (DRIVE["db_byte_length"], DRIVE["blobs_byte_length"])


async def test_entries_and_lists(drive: Drive) -> None:
    assert drive.version == DRIVE["version"]
    assert [fields(entry) async for entry in drive.entries()] == DRIVE["entries"]
    assert [fields(entry) async for entry in drive.list()] == DRIVE["entries"]
    assert [entry.path async for entry in drive.list("docs")] == DRIVE["list_docs"]
    assert [entry.path async for entry in drive.list("docs/", reverse=True)] == DRIVE["list_docs"][::-1]
    assert [entry.path for entry in await drive.children()] == DRIVE["list_root_shallow"]
    assert [entry.path for entry in await drive.children("/docs")] == DRIVE["list_docs_shallow"]
    assert await drive.readdir() == DRIVE["readdir_root"]
    assert await drive.readdir("/docs") == DRIVE["readdir_docs"]
    assert await drive.readdir("/docs/deep") == DRIVE["readdir_docs_deep"]


async def test_every_version(drive: Drive) -> None:
    for version, rows in DRIVE["versions"].items():
        snapshot = drive.checkout(int(version))
        assert [[entry.path, entry.seq] async for entry in snapshot.entries()] == rows


async def test_links(drive: Drive) -> None:
    assert fields(await drive.entry("/link", follow=True)) == DRIVE["follow_link"]
    assert fields(await drive.entry("/docs/rel", follow=True)) == DRIVE["follow_rel"]
    assert await drive.get("/link") is None
    followed = await drive.get("/link", follow=True)
    assert followed is not None
    assert followed.hex() == DRIVE["get_link_with_follow"]


async def test_contents(drive: Drive) -> None:
    for path, wanted in DRIVE["contents"].items():
        content = await drive.get(path)
        assert content is not None
        assert (len(content), sha256(content).hexdigest()) == (wanted["length"], wanted["sha256"])
        assert await drive.size(path) == wanted["length"]


async def test_ranges_are_cut_to_the_file(drive: Drive) -> None:
    for case in DRIVE["ranges"]:
        start = case["opts"]["start"]
        stop = start + case["opts"]["length"] if "length" in case["opts"] else case["opts"]["end"] + 1
        content = await read(drive, case["path"], start, stop)
        if case is DRIVE["ranges"][-1]:  # where the reference reads on in the next file
            assert content == bytes.fromhex(case["head"])[:8]
            assert len(content) == 8
        else:
            assert sha256(content).hexdigest() == case["sha256"]


async def test_diff_and_history(drive: Drive) -> None:
    def brief(entry: DriveEntry | None) -> list[object] | None:
        return None if entry is None else [entry.path, entry.seq]

    diff = [{"left": brief(d.left), "right": brief(d.right)} async for d in drive.diff(DRIVE["diff_against"])]
    assert diff == DRIVE["diff"]
    history = [
        ["del" if change.entry is None else "put", change.seq, f"files|{change.path}"]
        async for change in drive.history()
    ]
    assert history == DRIVE["history"]


@pytest.mark.parametrize("name", VECTORS["old_drives"])
async def test_older_drives_name_their_blobs_in_block_0(name: str) -> None:
    case = VECTORS["old_drives"][name]
    db = MemoryCore([bytes.fromhex(block) for block in case["db_blocks"]], key=bytes.fromhex(case["key"]))
    blobs = MemoryCore([bytes.fromhex(block) for block in case["blob_blocks"]])
    drive = await Drive.open(db, opener({case["content_key"]: blobs}))
    assert await drive.get("/a.txt") == b"old drive"
    assert await drive.get("/l", follow=True) == b"old drive"
