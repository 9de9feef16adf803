"""Cores of every kind, and cores that are cut: forks travel both ways."""

from random import Random

import pytest
import trio

from p2prss.crypto.keys import CoreKey, KeyPair, Namespace
from p2prss.log.manifest import Manifest, Signer, core_key
from p2prss.net.core import PeerCore
from tests.conftest import StartJsPeer
from tests.interop.conftest import Meet, StartPythonPeer
from tests.interop.python_peer import assert_alike

pytestmark = pytest.mark.interop

_PATIENCE = 20  # seconds, for anything that should take less than two
_SEED = bytes(range(32))


async def wait_fork(core: PeerCore, length: int, fork: int) -> None:
    while core.fork < fork or core.length < length:
        await core.session.changed.wait()


async def test_they_read_a_compat_core_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.compat_core(_SEED)
        assert own.key == CoreKey(KeyPair.from_seed(_SEED).public_key)
        await own.append([b"old", b"style"])
        key = own.key.hex()
        await theirs.open_core(key=key)
        await meet(ours, theirs)
        assert await theirs.get(key, 1) == b"style"
        await own.append([b"still"])
        await theirs.wait_length(key, 3)
        assert await theirs.get(key, 2) == b"still"
        assert (await theirs.core_info(key)).compat
        await assert_alike(own, theirs)


async def test_we_read_a_compat_core_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_core(seed=_SEED, compat=True)).key
        await theirs.append(key, [b"old", b"style"])
        copy = ours.core(key)
        await meet(ours, theirs)
        await copy.wait_length(2)
        assert await copy.get(1) == b"style"
        await theirs.append(key, [b"still"])
        await copy.wait_length(3)
        assert await copy.get(2) == b"still"
        assert copy.log.compat
        await assert_alike(copy, theirs)


async def test_a_manifest_of_its_own_comes_along(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    namespace = Namespace(b"\x09" * 32)
    public_key = KeyPair.from_seed(_SEED).public_key
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        signers = [{"publicKey": public_key.hex(), "namespace": namespace.hex()}]
        info = await theirs.open_core(seed=_SEED, manifest={"version": 1, "signers": signers})
        await theirs.append(info.key, [b"signed"])
        copy = ours.core(info.key)
        await meet(ours, theirs)
        await copy.wait_length(1)
        assert await copy.get(0) == b"signed"
        assert copy.manifest is not None
        assert copy.manifest.signers == (Signer(public_key, namespace),)
        assert core_key(copy.manifest) == copy.key

        other = KeyPair.from_seed(_SEED[::-1])
        manifest = Manifest.single(other.public_key, namespace)
        log = ours.store.open_log(core_key(manifest), manifest=manifest, key_pair=other)
        own = PeerCore(ours.exchange.session(log))
        await own.append([b"ours"])
        await theirs.open_core(key=own.key.hex())
        assert await theirs.get(own.key.hex(), 0) == b"ours"


@pytest.mark.parametrize("cut", [0, 1, 37, 64, 80])
async def test_we_follow_a_cut_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, cut: int
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_core(name="core")).key
        await theirs.append(key, [b"%d" % n for n in range(100)])
        copy = ours.core(key)
        ours.dial(await theirs.listen())
        await copy.wait_length(100)
        await copy.download(0, 50)
        await theirs.truncate(key, cut)
        await theirs.append(key, [b"new %d" % n for n in range(cut, 90)])
        await wait_fork(copy, 90, 1)
        await copy.download(0, 90)
        expected = [b"%d" % n for n in range(cut)] + [b"new %d" % n for n in range(cut, 90)]
        assert [block async for block in copy.read(0, 90)] == expected
        await assert_alike(copy, theirs)
        await theirs.append(key, [b"later"])
        await wait_fork(copy, 91, 1)
        assert await copy.get(90) == b"later"


@pytest.mark.parametrize("cut", [0, 1, 37, 64, 80])
async def test_they_follow_a_cut_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, cut: int
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append([b"%d" % n for n in range(100)])
        key = own.key.hex()
        await theirs.open_core(key=key)
        await theirs.connect(await ours.listen())
        await theirs.wait_length(key, 100)
        await theirs.download(key, 0, 50)
        await trio.to_thread.run_sync(own.log.truncate, cut)
        own.session.log_changed()
        await own.append([b"new %d" % n for n in range(cut, 90)])
        await theirs.wait_length(key, 90, fork=1)
        await theirs.download(key)
        for index in {0, 1, max(cut, 1) - 1, cut, 50, 89}:
            assert await theirs.get(key, index) == (b"%d" if index < cut else b"new %d") % index
        await assert_alike(own, theirs)
        await own.append([b"later"])
        await theirs.wait_length(key, 91, fork=1)
        assert await theirs.get(key, 90) == b"later"


async def test_cuts_made_while_nobody_listened_are_followed(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    random = Random(5)
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own, other = ours.own_core(), (await theirs.open_core(name="theirs")).key
        await theirs.open_core(key=own.key.hex())
        copy = ours.core(other)
        await own.append([b"first"])
        await theirs.append(other, [b"first"])
        await theirs.connect(await ours.listen())
        await copy.wait_length(1)
        await theirs.wait_length(own.key.hex(), 1)
        await theirs.disconnect()
        for number in range(3):
            blocks = [random.randbytes(random.randrange(100)) for _ in range(random.randrange(1, 50))]
            await own.append(blocks)
            await theirs.append(other, blocks)
            cut = random.randrange(own.length)
            await trio.to_thread.run_sync(own.log.truncate, cut)
            own.session.log_changed()
            await theirs.truncate(other, cut)
            assert own.fork == number + 1
        await own.append([b"last"])
        await theirs.append(other, [b"last"])

        await meet(ours, theirs)
        await wait_fork(copy, own.length, 3)
        await theirs.wait_length(own.key.hex(), own.length, fork=3)
        assert await copy.get(own.length - 1) == b"last"
        assert await theirs.get(own.key.hex(), own.length - 1) == b"last"
        await assert_alike(copy, theirs)
        await assert_alike(own, theirs)
        assert copy.log.head.tree_hash == own.log.head.tree_hash
