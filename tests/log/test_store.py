"""A home and its store: one owner, keys that can be restored, logs that are found again."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import CorruptLogError, HomeLockedError, StorageError, UsageError
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.store import Store

PODCASTS = child_namespace(ROOT_NAMESPACE, "p2prss")


def test_a_home_has_one_owner(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Store.open(home):
        with pytest.raises(HomeLockedError, match=f"process {os.getpid()}"):
            Store.open(home)
        program = (
            f"from pathlib import Path; from p2prss.log.store import Store; Store.open(Path({str(home)!r}))"
        )
        command = [sys.executable, "-c", program, str(home)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"HomeLockedError: {home} is in use by process {os.getpid()}" in other.stderr
    with Store.open(home):
        assert (home / "lock").read_text() == f"{os.getpid()}\n"


def test_secrets_are_private_and_not_in_the_database(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    with Store.open(home) as store:
        own = store.create("a show", PODCASTS)
        own.append([b"block"])
        foreign = KeyPair.from_seed(os.urandom(32))
        manifest = Manifest.single(foreign.public_key)
        imported = store.open_log(core_key(manifest), manifest=manifest, key_pair=foreign)
        imported.append([b"block"])
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    key_file = home / "keys" / format_key(imported.key)
    for file in (home / "keys" / "primary", key_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secret = file.read_bytes()
        assert len(secret) == 32
        for other in home.glob("store.sqlite*"):
            assert secret not in other.read_bytes()
    assert own.key_pair is not None
    assert own.key_pair.secret_key[:32] not in (home / "store.sqlite").read_bytes()


def test_names_give_the_same_logs_wherever_the_primary_key_is(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        log = store.create("a show", PODCASTS)
        assert store.create("a show", PODCASTS) is log
        assert store.create("a show") is not log
        assert store.create("another", PODCASTS) is not log
    primary = (tmp_path / "home" / "keys" / "primary").read_bytes()
    assert Store.in_memory(primary).create("a show", PODCASTS).key == log.key
    assert Store.in_memory().create("a show", PODCASTS).key != log.key


def test_logs_are_found_again_and_can_be_written(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        own = store.create("a show", PODCASTS)
        own.append([b"one"])
        # A drive's blobs core is signed by the pair of its db core, under another manifest.
        pair = store.key_pair("a show", PODCASTS)
        manifest = Manifest.single(pair.public_key, PODCASTS)
        sister = store.open_log(core_key(manifest), manifest=manifest, key_pair=pair)
        foreign_pair = KeyPair.from_seed(b"f" * 32)
        compat = store.open_log(CoreKey(foreign_pair.public_key), key_pair=foreign_pair)
        followed = store.open_log(CoreKey(b"k" * 32))
        keys = [own.key, sister.key, compat.key, followed.key]
        assert store.keys() == keys
    assert [file.name for file in (tmp_path / "home" / "keys").iterdir() if file.name != "primary"] == [
        format_key(compat.key)
    ]
    with Store.open(tmp_path / "home") as store:
        assert store.keys() == keys
        assert store.open_log(own.key, key_pair=pair).writable
        for key in (own.key, sister.key, compat.key):
            log = store.find(discovery_key(key))
            assert log is not None
            assert log.writable
            assert log is store.open_log(key)
            log.append([b"more"])
            assert log.verify().clean
        again = store.open_log(followed.key)
        assert not again.writable
        assert again.manifest is None
        assert store.open_log(own.key).manifest == own.manifest
        assert store.find(discovery_key(CoreKey(b"unknown" * 4 + b"...."))) is None


def test_a_key_pair_can_come_later_but_must_fit(tmp_path: Path) -> None:
    pair = KeyPair.from_seed(b"p" * 32)
    manifest = Manifest.single(pair.public_key)
    with Store.open(tmp_path / "home") as store:
        log = store.open_log(core_key(manifest), manifest=manifest)
        assert not log.writable
        with pytest.raises(UsageError, match="does not sign"):
            store.open_log(log.key, key_pair=KeyPair.from_seed(b"q" * 32))
        assert store.open_log(log.key, key_pair=pair) is log
        log.append([b"signed"])
    with Store.open(tmp_path / "home") as store:
        assert store.open_log(log.key).writable


def test_a_store_that_only_looks_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Store.open(home) as store:
        log = store.create("a show")
        log.append([b"one", b"two"])
        unknown = Manifest.single(KeyPair.from_seed(b"u" * 32).public_key)
        with Store.open_read_only(home) as looking:  # while the other one owns the home
            same = looking.open_log(log.key)
            assert (same.length, same.get(1), same.writable) == (2, b"two", False)
            assert looking.open_log(core_key(unknown), manifest=unknown).length == 0
            with pytest.raises(StorageError, match="readonly"):
                same.clear(0, 1)
            with pytest.raises(StorageError, match="readonly"):
                looking.put_record("feed", "key", b"value")
        assert store.keys() == [log.key]
    with Store.open(home) as store:
        assert store.keys() == [log.key]
        assert store.open_log(log.key).get(0) == b"one"


def test_a_removed_log_is_gone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        log = store.create("a show")
        log.append([b"one", b"two"])
        store.remove(log.key)
        assert list((tmp_path / "home" / "cores").iterdir()) == []
        assert store.keys() == []
        assert store.find(log.discovery_key) is None
        assert log.length == 0
        assert log.get(0) is None
        again = store.create("a show")
        assert again is not log
        again.append([b"anew"])
        assert again.get(0) == b"anew"
        store.remove(CoreKey(b"unknown" * 4 + b"...."))


def test_a_lost_primary_key_is_not_replaced_silently(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home"):
        pass
    (tmp_path / "home" / "keys" / "primary").unlink()
    with pytest.raises(CorruptLogError, match="restore it"):
        Store.open(tmp_path / "home")
    (tmp_path / "home" / "keys" / "primary").write_bytes(b"short")
    with pytest.raises(CorruptLogError, match="5 bytes"):
        Store.open(tmp_path / "home")


def test_a_home_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        Store.open(tmp_path / "file" / "home")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "home")
    log = store.create("a show")
    log.append([b"one"])
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        log.append([b"two"])
    with pytest.raises(StorageError, match="closed"):
        log.get(0)
    with pytest.raises(StorageError, match="closed"):
        store.create("another")
    with pytest.raises(StorageError, match="closed"):
        store.put_record("kind", "key", b"")


def test_records_survive(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        store.put_record("feed", "key", b"value")
    with Store.open(tmp_path / "home") as store:
        assert store.records("feed") == [("key", b"value")]


def test_many_logs_need_few_descriptors(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        logs = [store.open_log(CoreKey(bytes([n, 1]) * 16)) for n in range(100)]
        logs += [store.create(str(n)) for n in range(100)]
        for log in logs[100:]:
            log.append([b"block"])
        assert all(log.get(0) == b"block" for log in logs[100:])
        assert len(list(Path("/proc/self/fd").iterdir())) < 150
        assert store.statistics().cores == 200
