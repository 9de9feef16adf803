"""Drives between p2prss and the JavaScript reference: read, seeded and followed from both sides."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest
import trio

from p2prss.drive.drive import Drive
from p2prss.drive.entry import DriveEntry
from p2prss.drive.reader import DriveReader
from p2prss.units import MIB
from tests.conftest import StartJsPeer
from tests.interop.conftest import Meet, StartPythonPeer
from tests.interop.js_peer import DriveEntry as JsEntry
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PythonPeer

pytestmark = pytest.mark.interop

_PATIENCE = 30  # seconds, for anything that should take less than five
_BIG = 20 * MIB
_FILES = {
    "/big.bin": Random(1).randbytes(_BIG),
    "/empty": b"",
    "/one": b"1",
    "/exact.bin": Random(2).randbytes(2 * 65_536),  # whole blocks
    "/folder/deep/er/ünï cödé 日本 🎙.txt": "Grüße".encode(),
    "/folder/e\u0301": b"decomposed",
    "/folder/\u00e9": b"composed",
}
_LINKS = {"/link": "/one", "/folder/relative": "../one"}


async def fill(drive: Drive) -> None:
    """Put the files and links above into a drive of ours."""
    for path, content in _FILES.items():
        await drive.put(path, content, executable=path == "/one", metadata={"size": len(content)})
    for path, target in _LINKS.items():
        await drive.symlink(path, target)


async def fill_theirs(peer: JsPeer, drive: str, scratch: Path) -> None:
    """The same, in JavaScript; what is large is streamed from a file."""
    for path, content in _FILES.items():
        source: bytes | Path = content
        if len(content) > 65_536:
            source = scratch / hashlib.sha256(path.encode()).hexdigest()
            source.write_bytes(content)
        metadata = {"size": len(content)}
        await peer.put(drive, path, source, executable=path == "/one", metadata=metadata)
    for path, target in _LINKS.items():
        await peer.symlink(drive, path, target)


async def assert_read(drive: DriveReader) -> None:
    """One of ours reads all that was filled in, and nothing else."""
    entries = [entry async for entry in drive.entries()]
    assert [entry.path for entry in entries] == sorted([*_FILES, *_LINKS], key=str.encode)
    for entry in entries:
        if entry.path in _LINKS:
            assert entry.linkname == _LINKS[entry.path]
        else:
            content = _FILES[entry.path]
            assert entry.metadata == {"size": len(content)}
            assert entry.executable == (entry.path == "/one")
            assert await drive.get(entry.path) == content
    assert await drive.get("/link", follow=True) == b"1"


def assert_mirrored(folder: Path) -> None:
    """The reference's own tool has made the same files of it."""
    for path, content in _FILES.items():
        assert (folder / path[1:]).read_bytes() == content
    for path in _LINKS:
        link = folder / path[1:]
        assert link.is_symlink()
        assert link.read_bytes() == b"1"
    assert os.access(folder / "one", os.X_OK)
    assert not os.access(folder / "empty", os.X_OK)
    found = {path for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    assert len(found) == len(_FILES) + len(_LINKS)


async def follow(peer: PythonPeer, key: str) -> Drive:
    """One of ours opens a drive and learns its newest version."""
    drive = await peer.drive(key)
    await drive.wait_changed(1)
    return drive


async def test_they_mirror_a_drive_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        drive = await ours.drive()
        await fill(drive)
        key = drive.key.hex()
        await theirs.open_drive(key=key)
        await meet(ours, theirs)
        await theirs.wait_length(key, drive.version)
        count = await theirs.mirror(key, tmp_path / "mirror")
        assert count.files == count.add == len(_FILES) + len(_LINKS)
        assert_mirrored(tmp_path / "mirror")


async def test_we_read_a_drive_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        await fill_theirs(theirs, key, tmp_path)
        await meet(ours, theirs)
        await assert_read(await follow(ours, key))


async def test_a_drive_of_ours_lives_on_at_one_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs = await js_peer()
        async with PythonPeer.open() as writer:
            drive = await writer.drive()
            await fill(drive)
            key, version = drive.key.hex(), drive.version
            await theirs.open_drive(key=key)
            await theirs.connect(await writer.listen())
            await theirs.update_drive(key)
            await theirs.mirror(key, tmp_path / "mirror")
        await theirs.disconnect()

        ours = await python_peer()
        await meet(ours, theirs)
        copy = await follow(ours, key)
        assert copy.version == version
        await assert_read(copy)


async def test_a_drive_of_theirs_lives_on_here(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    with trio.fail_after(_PATIENCE):
        writer, ours = await js_peer("writer"), await python_peer()
        key = (await writer.open_drive(name="show")).key
        await fill_theirs(writer, key, tmp_path)
        port = await writer.listen()
        ours.dial(port)
        copy = await follow(ours, key)
        await copy.download_entries()
        async for entry in copy.entries():
            if entry.blob is not None:
                await copy.download(entry)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.stop_listening, port)
            nursery.start_soon(writer.disconnect)

        reader = await js_peer("reader")
        await reader.open_drive(key=key)
        await meet(ours, reader)
        await reader.wait_length(key, copy.version)
        await reader.mirror(key, tmp_path / "mirror")
        assert_mirrored(tmp_path / "mirror")


# -- histories: puts, deletes and batches in a fixed order, made by either side

Step = list[tuple[str, str, bytes | str | None]]


def random_steps() -> list[Step]:
    """Batches of operations as ``JsPeer.batch`` takes them, with paths that meet again and again."""
    random = Random(4)
    paths = [f"/{folder}/{n}" for folder in ("a", "é", "a/b") for n in range(12)] + ["/a0", "/a-", "/z"]
    steps: list[Step] = []
    for number in range(30):
        step: Step = []
        for path in random.sample(paths, 1 if number % 3 else random.randrange(2, 15)):
            match random.randrange(4):
                case 0:
                    step.append(("del", path, None))
                case 1:
                    step.append(("symlink", path, random.choice(paths)))
                case _:
                    step.append(("put", path, random.randbytes(random.randrange(100))))
        steps.append(step)
    return steps


async def take_step(drive: Drive, step: Step) -> None:
    """One batch, here."""
    async with drive.batch() as batch:
        for kind, path, value in step:
            if kind == "del":
                batch.delete(path)
            elif isinstance(value, str):
                batch.symlink(path, value)
            else:
                assert isinstance(value, bytes)
                await batch.put(path, value)


Row = tuple[str, int, str | None, tuple[int, int, int, int] | None]


def row(entry: DriveEntry | JsEntry) -> Row:
    """What must be equal of an entry."""
    blob = entry.blob
    place = None
    if blob is not None:
        place = blob.block_offset, blob.byte_offset, blob.block_length, blob.byte_length
    return entry.path, entry.seq, entry.linkname, place


async def rows(drive: DriveReader) -> list[Row]:
    return [row(entry) async for entry in drive.entries()]


async def rows_of_theirs(peer: JsPeer, key: str, version: int = 0) -> list[Row]:
    return [row(entry) for entry in await peer.entries(key, version=version)]


async def assert_same_past(drive: Drive, peer: JsPeer, key: str, versions: Sequence[int]) -> None:
    """Both see the same entries at each version, the same steps and the same differences."""
    now = await rows(drive)
    assert await rows_of_theirs(peer, key) == now
    for version in versions:
        before = await rows(drive.checkout(version))
        assert await rows_of_theirs(peer, key, version) == before
        changed = [change async for change in drive.diff(version)]
        assert {row(change.left) for change in changed if change.left} == set(now) - set(before)
        assert {row(change.right) for change in changed if change.right} == set(before) - set(now)
    theirs = [(change.type, change.seq, change.path) for change in await peer.history(key)]
    ours = [(change.entry, change.seq, change.path) async for change in drive.history()]
    assert [("put" if entry else "del", seq, path) for entry, seq, path in ours] == theirs
    for path, seq, linkname, _ in now:
        if linkname is None:
            content = await drive.get(path)
            assert content is not None
            read = await peer.read(key, path)
            assert read.sha256 == hashlib.sha256(content).hexdigest(), seq


async def test_they_see_the_past_of_a_drive_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        drive = await ours.drive()
        versions = []
        for step in random_steps():
            await take_step(drive, step)
            versions.append(drive.version)
        key = drive.key.hex()
        await theirs.open_drive(key=key)
        await meet(ours, theirs)
        await theirs.wait_length(key, drive.version)
        await assert_same_past(drive, theirs, key, versions[::6])


async def test_we_see_the_past_of_a_drive_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        versions = [(await theirs.batch(key, step)).version for step in random_steps()]
        await meet(ours, theirs)
        await assert_same_past(await follow(ours, key), theirs, key, versions[::6])


async def test_they_follow_a_drive_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        drive = await ours.drive()
        key = drive.key.hex()
        await theirs.open_drive(key=key)
        await meet(ours, theirs)  # while the drive is still empty
        for step in random_steps()[:12]:
            await take_step(drive, step)
            await theirs.wait_length(key, drive.version)
            assert await rows_of_theirs(theirs, key) == await rows(drive)
        await assert_same_past(drive, theirs, key, [])


async def test_we_follow_a_drive_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        drive = await ours.drive(key)
        await meet(ours, theirs)  # while the drive is still empty
        for step in random_steps()[:12]:
            version = (await theirs.batch(key, step)).version
            while drive.version < version:
                await drive.wait_changed(drive.version)
            assert await rows(drive) == await rows_of_theirs(theirs, key)
        await assert_same_past(drive, theirs, key, [])


async def test_they_follow_a_drive_of_theirs_through_us(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader, ours = await js_peer("writer"), await js_peer("reader"), await python_peer()
        key = (await writer.open_drive(name="show")).key
        copy = await ours.drive(key)
        ours.dial(await writer.listen())
        await reader.open_drive(key=key)
        await reader.connect(await ours.listen())
        for number, step in enumerate(random_steps()[:8]):
            await writer.batch(key, [*step, ("put", "/number", b"%d" % number)])
            version = (await writer.drive_info(key)).version
            while copy.version < version:
                await copy.wait_changed(copy.version)
            await copy.download_entries()
            await copy.download("/number")
            await reader.wait_length(key, version)
            assert await rows_of_theirs(reader, key) == await rows_of_theirs(writer, key)
            assert (await reader.read(key, "/number", data=True)).data == b"%d" % number


async def test_we_read_a_drive_that_they_made_of_a_folder(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    """With block maps: equal blocks are stored once."""
    folder = tmp_path / "folder"
    folder.mkdir()
    blocks = [bytes([n]) * 65_536 for n in range(5)]
    (folder / "a.bin").write_bytes(b"".join(blocks))
    (folder / "b.bin").write_bytes(b"".join([blocks[0], b"changed", *blocks[1:], *blocks[1:]]))
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        assert (await theirs.mirror_from(key, folder, dedup=True)).add == 2
        await meet(ours, theirs)
        drive = await follow(ours, key)
        for name in ("a.bin", "b.bin"):
            content = (folder / name).read_bytes()
            entry = await drive.entry(f"/{name}")
            assert entry is not None
            assert entry.blob is not None
            assert entry.blob.block_map
            assert await drive.get(f"/{name}") == content
            async with aclosing(drive.read(entry, 65_530, 140_000)) as pieces:
                assert b"".join([piece async for piece in pieces]) == content[65_530:140_000]
