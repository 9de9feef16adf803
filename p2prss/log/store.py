"""A store: all logs of a home, their keys, and small records of other parts beside them.

Own logs have names. The key pair of a name is derived from the home's primary key by the rule of Corestore,
so a backup of that one key restores every log that was ever created here, in the JavaScript programs too.
Source: corestore 7.12.5 index.js; spec/03-log.
"""

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from p2prss.crypto.derivation import ROOT_NAMESPACE, derive_key_pair
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import KEY_SIZE, CoreKey, DiscoveryKey, KeyPair, Namespace, PublicKey
from p2prss.errors import StorageError, UsageError
from p2prss.log.authority import Authority
from p2prss.log.disk import Disk
from p2prss.log.home import Home
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.memory_storage import MemoryBackend, MemoryStorage
from p2prss.log.sqlite_backend import SqliteBackend
from p2prss.log.storage import CoreEntry, CoreStorage, SignerName, StorageStatistics, StoreBackend

CONFLICT_KIND: Final = "conflict"  # of records: what shows that a log is in conflict, by its key in hex


class Store:
    """All logs of one home. Every log is opened once: the same key gives the same ``Log``."""

    def __init__(self, backend: StoreBackend, primary_key: bytes, home: Home | None = None) -> None:
        if len(primary_key) != KEY_SIZE:
            raise ValueError(f"a primary key has {KEY_SIZE} bytes, not {len(primary_key)}")
        self._backend = backend
        self._primary_key = primary_key
        self._home = home
        self._lock = threading.RLock()
        self._logs: dict[CoreKey, Log] = {}
        self._entries = {entry.discovery_key: entry for entry in backend.entries()}
        self._conflicts = {key for key, _ in backend.records(CONFLICT_KIND)}
        self._names: dict[PublicKey, SignerName] = {}  # of the pairs derived so far
        self._imported: dict[CoreKey, KeyPair] = {}  # of a store without a home
        self._closed = False
        self.read_only = False

    @classmethod
    def open(cls, home: Path, *, disk: Disk | None = None) -> Self:
        """Open the store in a folder, which is made if it is missing, and own it until ``close``.

        Raises: HomeLockedError when another process owns it, SchemaError when a newer version wrote it;
            StorageError.
        """
        folder = Home(home)
        try:
            primary_key = folder.primary_key()
            return cls(SqliteBackend(home, disk=disk), primary_key, folder)
        except BaseException:
            folder.close()
            raise

    @classmethod
    def open_read_only(cls, home: Path) -> Self:
        """Look into a home that another process may own; nothing is ever written through this store.

        Own logs are opened without their keys, unknown ones are empty. Raises: SchemaError, StorageError.
        """
        store = cls(SqliteBackend(home, read_only=True), bytes(KEY_SIZE))
        store.read_only = True
        return store

    @classmethod
    def in_memory(cls, primary_key: bytes | None = None) -> Self:
        """A store that is gone with the process."""
        return cls(MemoryBackend(), primary_key or secrets.token_bytes(KEY_SIZE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and give the home up. Logs of a closed store raise StorageError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._backend.close()
                if self._home is not None:
                    self._home.close()

    # -- logs ------------------------------------------------------------------------------------------------

    def create(self, name: str, namespace: Namespace = ROOT_NAMESPACE) -> Log:
        """The own log of a name, made if it is new: its key pair is derived from the primary key."""
        key_pair = self.key_pair(name, namespace)
        manifest = Manifest.single(key_pair.public_key)
        return self.open_log(core_key(manifest), manifest=manifest, key_pair=key_pair)

    def key_pair(self, name: str, namespace: Namespace = ROOT_NAMESPACE) -> KeyPair:
        """The key pair of a name."""
        key_pair = derive_key_pair(self._primary_key, namespace, name)
        with self._lock:
            self._names[key_pair.public_key] = SignerName(namespace, name)
        return key_pair

    def open_log(
        self, key: CoreKey, *, manifest: Manifest | None = None, key_pair: KeyPair | None = None
    ) -> Log:
        """The log of a key, remembered from now on.

        Args: manifest: if known; it must be this key's. key_pair: to write the log; a pair that a name of
            this store derives is found again by its name, another one is kept as a key file.
        Raises: UsageError when the manifest or the pair is not this log's; StorageError.
        """
        with self._lock:
            self._check_open()
            log, known = self._logs.get(key), self._entries.get(discovery_key(key))
            if log is None and known is not None:
                log = self._open(known, manifest, None)  # what is stored of it may say who signs
            if log is not None and (key_pair is None or log.key_pair is not None):
                return log
            if key_pair is not None:
                _check_signer(key, manifest or (log.manifest if log else None), key_pair)
            signer = self._names.get(key_pair.public_key) if key_pair else None
            if key_pair is not None and signer is None:
                self._import(key, key_pair)
            if log is not None:
                log.key_pair = key_pair
            return self._open(CoreEntry(key, discovery_key(key), signer), manifest, key_pair)

    def _open(self, entry: CoreEntry, manifest: Manifest | None, key_pair: KeyPair | None) -> Log:
        known = self._entries.get(entry.discovery_key)
        if known is not None and entry.signer is None:
            entry = known
        storage: CoreStorage = MemoryStorage()
        if known is not None or not self.read_only:
            storage = self._backend.add(entry)
            self._entries[entry.discovery_key] = entry
        log = self._logs.get(entry.key)
        if log is None:
            pair = key_pair or self._own_key_pair(entry)
            log = Log(entry.key, storage, manifest=manifest, key_pair=pair, read_only=self.read_only)
            log.frozen = entry.key.hex() in self._conflicts
            self._logs[entry.key] = log
        return log

    def _own_key_pair(self, entry: CoreEntry) -> KeyPair | None:
        if self.read_only:
            return None
        if entry.signer is not None:
            return self.key_pair(entry.signer.name, entry.signer.namespace)
        if self._home is not None:
            return self._home.imported_key_pair(entry.key)
        return self._imported.get(entry.key)

    def _import(self, key: CoreKey, key_pair: KeyPair) -> None:
        if self._home is not None:
            self._home.import_key_pair(key, key_pair)
        else:
            self._imported[key] = key_pair

    def find(self, discovery_key: DiscoveryKey) -> Log | None:
        """The log of a discovery key, opened if it is known here."""
        with self._lock:
            entry = self._entries.get(discovery_key)
            return self.open_log(entry.key) if entry is not None else None

    def keys(self) -> Sequence[CoreKey]:
        """The keys of all logs, oldest first."""
        with self._lock:
            return [entry.key for entry in self._entries.values()]

    def remove(self, key: CoreKey) -> None:
        """Forget a log and delete its blocks; the key pair stays derivable, an imported one stays a file."""
        with self._lock:
            self._check_open()
            log = self._logs.pop(key, None)
            if log is not None:
                log.retire()
            self._backend.remove(key)
            self._entries.pop(discovery_key(key), None)
            if key.hex() in self._conflicts:
                self._conflicts.discard(key.hex())
                self.delete_record(CONFLICT_KIND, key.hex())

    def freeze(self, log: Log, evidence: bytes) -> None:
        """A log is in conflict with itself: from now on, also after a restart, nothing is added to it.

        Args: evidence: what shows it to others; kept as a record.
        """
        with self._lock:
            self.put_record(CONFLICT_KIND, log.key.hex(), evidence)
            self._conflicts.add(log.key.hex())
            log.frozen = True

    def compact(self) -> int:
        """Give back the room of dropped blocks in all logs; returns the bytes freed on the disk."""
        return sum(self.open_log(key).compact() for key in self.keys())

    def statistics(self) -> StorageStatistics:
        """How many logs there are, and what they take on the disk."""
        return self._backend.statistics()

    # -- records ---------------------------------------------------------------------------------------------

    def get_record(self, kind: str, key: str) -> bytes | None:
        """A value that ``put_record`` stored."""
        return self._backend.get_record(kind, key)

    def put_record(self, kind: str, key: str, value: bytes) -> None:
        """Store a small value under a kind ("feed", "setting") and a key; on the disk when this returns."""
        self._backend.put_record(kind, key, value)

    def delete_record(self, kind: str, key: str) -> None:
        """Delete a value if it is there."""
        self._backend.delete_record(kind, key)

    def records(self, kind: str) -> list[tuple[str, bytes]]:
        """All values of a kind with their keys, by key."""
        return self._backend.records(kind)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the store is closed")


def _check_signer(key: CoreKey, manifest: Manifest | None, key_pair: KeyPair) -> None:
    try:
        Authority(key, manifest)
    except ValueError as error:
        raise UsageError(str(error)) from None
    signers = {signer.public_key for signer in manifest.signers} if manifest else {key}
    if key_pair.public_key not in signers:
        raise UsageError("the key pair does not sign this log")
