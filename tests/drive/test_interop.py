"""Drives go back and forth between the JavaScript reference and ours, block by block."""

import hashlib
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest
import trio

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.drive.content import content_manifest
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.reader import DriveReader
from p2prss.log.manifest import Manifest, core_key
from tests.conftest import StartJsPeer
from tests.fakes.memory_core import MemoryCore
from tests.interop.js_peer import JsPeer

pytestmark = pytest.mark.interop

_PATIENCE = 60  # seconds, for anything that should take a few
_SEED = bytes(range(32))
_MANIFEST = Manifest.single(KeyPair.from_seed(_SEED).public_key)
_PATHS = [f"/{folder}/{name:02d}.txt" for folder in ("a", "é", "a/b") for name in range(30)] + ["/a0", "/a-"]


class Cores:
    """The two logs of our drive in memory, and what a JavaScript store already has of them."""

    def __init__(self) -> None:
        self.db = MemoryCore(key=core_key(_MANIFEST), manifest=_MANIFEST)
        self.content = content_manifest(_MANIFEST, self.db.key)
        self.blobs = MemoryCore(key=core_key(self.content), manifest=self.content)

    async def open_core(self, key: CoreKey, manifest: Manifest | None) -> Core:
        assert key == self.blobs.key
        return self.blobs

    async def send(self, peer: JsPeer) -> None:
        """Let the peer be the writer, and append what it lacks."""
        for core, manifest in ((self.blobs, self.content), (self.db, _MANIFEST)):
            info = await peer.open_core(seed=_SEED, manifest=describe(manifest))
            assert info.key == core.key.hex()
            await peer.append(info.key, core.blocks[info.length :])

    async def receive(self, peer: JsPeer) -> None:
        """Take over what the peer has appended."""
        for core in (self.blobs, self.db):
            length = (await peer.core_info(core.key.hex())).length
            async with core.write_lock:
                for index in range(core.length, length):
                    block = await peer.get(core.key.hex(), index)
                    assert block is not None
                    await core.append([block])


def describe(manifest: Manifest) -> dict[str, object]:
    signers = [
        {"publicKey": signer.public_key.hex(), "namespace": signer.namespace.hex()}
        for signer in manifest.signers
    ]
    return {"version": manifest.version, "quorum": manifest.quorum, "signers": signers}


async def assert_alike(drive: DriveReader, peer: JsPeer, key: str, *, version: int = 0) -> None:
    ours = [
        (e.path, e.seq, e.executable, e.linkname, e.metadata, e.blob and e.blob.block_offset)
        async for e in drive.list()
    ]
    theirs = [
        (e.path, e.seq, e.executable, e.linkname, e.metadata, e.blob and e.blob.block_offset)
        for e in await peer.entries(key, version=version)
    ]
    assert ours == theirs


async def test_a_drive_of_ours_goes_on_in_javascript_and_comes_back(
    js_peer: StartJsPeer, tmp_path: Path
) -> None:
    random = Random(7)
    cores = Cores()
    drive = await Drive.open(cores.db, cores.open_core, rewrite_stale=True)
    versions = []
    for _ in range(40):
        async with drive.batch() as batch:
            for path in random.choices(_PATHS, k=random.randrange(1, 12)):
                match random.randrange(5):
                    case 0 | 1:
                        batch.delete(path)
                    case 2:
                        batch.symlink(path, random.choice(_PATHS))
                    case _:
                        await batch.put(path, random.randbytes(random.randrange(200)), metadata={"né": [1]})
        versions.append(drive.version)
    big = random.randbytes(300_000)
    await drive.put("/big.bin", big, executable=True)

    with trio.fail_after(_PATIENCE):
        peer = await js_peer("writer")
        await cores.send(peer)
        key = (await peer.open_drive(key=cores.db.key.hex())).key
        assert (await peer.blobs(key)).key == cores.blobs.key.hex()
        await assert_alike(drive, peer, key)
        for version in versions[::7]:
            await assert_alike(drive.checkout(version), peer, key, version=version)
        for path in _PATHS:  # deleted ones too: the reference looks up in its own way
            ours, theirs = await drive.entry(path), await peer.entry(key, path)
            assert (ours and ours.seq) == (theirs and theirs.seq)
        history = [(c.type, c.seq, c.path) for c in await peer.history(key)]
        assert history == [
            ("del" if c.entry is None else "put", c.seq, c.path) async for c in drive.history()
        ]
        assert (await peer.read(key, "/big.bin")).sha256 == hashlib.sha256(big).hexdigest()
        assert (await peer.read_range(key, "/big.bin", 65_530, 70_000)).data == big[65_530:70_000]

        folder = tmp_path / "folder"
        folder.mkdir()
        blocks = [bytes([n]) * 65_536 for n in range(5)]
        for content in (blocks, [blocks[0], b"changed", blocks[1], blocks[1]]):
            (folder / "dedup.bin").write_bytes(b"".join(content))
            await peer.put(key, "/dedup.bin", folder / "dedup.bin", dedup=True)
        for path in random.sample(_PATHS, 40):
            await peer.delete(key, path)
        await peer.batch(key, [("put", f"/new/{n}", b"%d" % n) for n in range(50)])

        await cores.receive(peer)
        await assert_alike(drive, peer, key)
        entry = await drive.entry("/dedup.bin")
        assert entry is not None
        assert entry.blob is not None
        assert entry.blob.block_map
        wanted = blocks[0] + b"changed" + blocks[1] + blocks[1]
        assert await drive.get("/dedup.bin") == wanted
        async with aclosing(drive.read("/dedup.bin", 65_530, 131_100)) as pieces:
            assert b"".join([piece async for piece in pieces]) == wanted[65_530:131_100]
        assert await drive.get("/new/49") == b"49"

        await drive.put("/ours-again", b"1")
        await drive.delete("/new/7")
        await cores.send(peer)
        await assert_alike(drive, peer, key)
