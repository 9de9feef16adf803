"""The harness itself: two JavaScript peers replicate through it as they do without it."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
import trio

from tests.conftest import StartJsPeer
from tests.interop.js_peer import JsPeerError

pytestmark = pytest.mark.interop

_PRIMARY_KEY = bytes(range(32))
_BIG = bytes(i * 7 % 251 for i in range(300_000))  # five blocks of 64 KiB, the last one shorter
_PATIENCE = 30  # seconds, for anything that should take none


async def test_a_drive_is_replicated_listed_read_and_mirrored(js_peer: StartJsPeer, tmp_path: Path) -> None:
    with trio.fail_after(_PATIENCE):
        writer = await js_peer("writer", primary_key=_PRIMARY_KEY)
        reader = await js_peer("reader")
        drive = (await writer.open_drive(name="show")).key
        await writer.put(drive, "/hello.txt", b"hello", metadata={"n": 1})
        await writer.put(drive, "/media/big.bin", _BIG)
        first = (await writer.symlink(drive, "/link", "/hello.txt")).version
        await writer.batch(drive, [("put", "/b1", b"1"), ("del", "/hello.txt", None), ("put", "/b2", b"2")])

        await reader.open_drive(key=drive)
        await reader.connect(await writer.listen())
        assert (await reader.update_drive(drive)).version == (await writer.drive_info(drive)).version

        assert [e.path for e in await reader.entries(drive)] == ["/b1", "/b2", "/link", "/media/big.bin"]
        assert [e.path for e in await reader.entries(drive, version=first)] == [
            "/hello.txt",
            "/link",
            "/media/big.bin",
        ]
        old = await reader.entry(drive, "/link", version=first, follow=True)
        assert old is not None
        assert old.metadata == {"n": 1}

        blobs = await reader.blobs(drive)
        assert await reader.held(blobs.key) == []
        part = await reader.read_range(drive, "/media/big.bin", 70_000, 70_010)
        assert part.data == _BIG[70_000:70_010]
        assert part.held[0][0] == 2  # block 0 is /hello.txt, the file's second block is wanted first
        whole = await reader.read(drive, "/media/big.bin")
        assert (whole.length, whole.sha256) == (len(_BIG), hashlib.sha256(_BIG).hexdigest())

        changes = [(change.type, change.path) for change in await reader.history(drive)]
        assert changes[-3:] == [("put", "/b1"), ("del", "/hello.txt"), ("put", "/b2")]
        count = await reader.mirror(drive, tmp_path / "out")
        assert (count.files, count.add) == (4, 4)
        assert (tmp_path / "out/media/big.bin").read_bytes() == _BIG


async def test_a_core_is_appended_truncated_and_followed(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader = await js_peer("writer"), await js_peer("reader")
        core = (await writer.open_core(name="numbers")).key
        await reader.open_core(key=core)
        await reader.connect(await writer.listen())

        sent_at = time.time()
        await writer.append(core, [b"%d" % i for i in range(20)])
        assert await reader.wait_length(core, 20) >= sent_at - 0.5
        assert await reader.get(core, 7) == b"7"
        assert await reader.get(core, 8, wait=False) is None
        await reader.download(core, 4, 6)
        assert await reader.held(core) == [(4, 6), (7, 8)]
        seek = await reader.seek(core, 11)
        assert seek is not None
        assert (seek.index, seek.offset) == (10, 1)

        await reader.clear(core, 5, 6)
        assert await reader.held(core) == [(4, 5), (7, 8)]
        await writer.truncate(core, 10)
        await writer.append(core, [b"new"])
        await reader.wait_length(core, 11, fork=1)
        ours, theirs = await writer.core_info(core), await reader.core_info(core)
        assert (theirs.length, theirs.fork, theirs.tree_hash) == (ours.length, ours.fork, ours.tree_hash)


async def test_a_compat_core_is_named_by_its_public_key(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader = await js_peer("writer"), await js_peer("reader")
        info = await writer.open_core(seed=b"\x07" * 32, compat=True)
        assert info.compat
        assert info.writable
        assert info.key == info.public_key
        await writer.append(info.key, [b"old", b"style"])
        await reader.open_core(key=info.key)
        await reader.connect(await writer.listen())
        assert await reader.get(info.key, 1) == b"style"
        assert (await reader.core_info(info.key)).compat


async def test_a_core_may_have_a_manifest_of_its_own(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        peer = await js_peer()
        plain = await peer.open_core(seed=b"\x08" * 32)
        assert plain.public_key is not None
        manifest = {"version": 1, "signers": [{"publicKey": plain.public_key, "namespace": "09" * 32}]}
        other = await peer.open_core(seed=b"\x08" * 32, manifest=manifest)
        assert other.writable
        assert not other.compat
        assert other.key not in (plain.key, plain.public_key)
        assert (await peer.append(other.key, [b"signed"])).length == 1


async def test_a_folder_becomes_a_drive_with_block_maps(js_peer: StartJsPeer, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/big.bin").write_bytes(_BIG)
    with trio.fail_after(_PATIENCE):
        peer = await js_peer()
        drive = (await peer.open_drive()).key
        assert (await peer.mirror_from(drive, folder, dedup=True)).add == 1
        entry = await peer.entry(drive, "/sub/big.bin")
        assert entry is not None
        assert entry.blob is not None
        assert entry.blob.block_map
        assert (await peer.read(drive, "/sub/big.bin", data=True)).data == _BIG
        await peer.put(drive, "/copy.bin", folder / "sub/big.bin")
        copied = await peer.entry(drive, "/copy.bin")
        assert copied is not None
        assert copied.blob is not None
        assert (copied.blob.byte_length, copied.blob.block_length) == (len(_BIG), 5)


async def test_a_change_is_noticed_after_a_new_connection(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader = await js_peer("writer"), await js_peer("reader")
        drive = (await writer.open_drive(name="show")).key
        await writer.put(drive, "/a", b"a")
        await reader.open_drive(key=drive)
        port = await writer.listen()
        await reader.connect(port)
        await reader.update_drive(drive)
        await reader.disconnect()
        await writer.put(drive, "/b", b"b")

        seen: list[int] = []

        async def watch() -> None:
            seen.append(await reader.watch_once(drive))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await reader.connect(port)
        assert seen == [(await writer.drive_info(drive)).version]
        kinds = [event["event"] for event in reader.events]
        assert kinds == ["ready", "connection", "disconnected", "connection"]


async def test_a_peer_that_dies_is_an_error_for_whoever_waits(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        peer = await js_peer()
        core = await peer.open_core(key="ab" * 32)

        async def kill() -> None:
            await peer.stats()
            os.kill(peer.pid, signal.SIGKILL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            with pytest.raises(JsPeerError, match="ended before it answered get"):
                await peer.get(core.key, 0)
        with pytest.raises(JsPeerError, match="ended before it answered stats"):
            await peer.stats()


async def test_keys_are_those_of_the_vectors(js_peer: StartJsPeer) -> None:
    corestore = json.loads((Path(__file__).parents[1] / "vectors/drive.json").read_text())["corestore"]
    named = [case for case in corestore["derived"] if case["namespace_path"] == ""]
    assert named
    with trio.fail_after(_PATIENCE):
        peer = await js_peer(primary_key=bytes.fromhex(corestore["primary_key"]))
        for case in named:
            assert (await peer.open_core(name=case["name"])).key == case["key"]


async def test_peers_meet_in_a_private_swarm(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader = await js_peer("writer"), await js_peer("reader")
        bootstrap = await writer.testnet()
        core = (await writer.open_core(name="found")).key
        await writer.append(core, [b"here"])
        await reader.open_core(key=core)
        await writer.join(core, bootstrap, client=False)
        await reader.join(core, bootstrap, server=False)
        assert await reader.get(core, 0) == b"here"


async def test_errors_are_answers_and_the_peer_goes_on(js_peer: StartJsPeer) -> None:
    with trio.fail_after(_PATIENCE):
        peer = await js_peer()
        with pytest.raises(JsPeerError, match="unknown command"):
            await peer.call("fly")
        with pytest.raises(JsPeerError, match="not open"):
            await peer.get("00" * 32, 0)
        with pytest.raises(JsPeerError, match="ECONNREFUSED"):
            await peer.connect(1)
        assert (await peer.stats())["sockets"] == 0
