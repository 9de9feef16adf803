"""The doctor's look at this machine: home, lock, database, keys, disk and clock.

Nothing is created or changed. What is written to time the disk is a file without a name, in a home that is
there; SQLite is told that nobody writes, so that it makes no files of its own beside the database.
"""

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Final

from p2prss.errors import CorruptLogError, P2prssError, SchemaError, StorageError
from p2prss.feed.mirroring.policy import KEEP_FREE_BYTES, KEEP_FREE_SHARE
from p2prss.log.database import SCHEMA_VERSION
from p2prss.node.doctor_checks import (
    Check,
    guarded,
    ok,
    problem,
    unknown,
    warning,
)
from p2prss.node.home_paths import HomePaths
from p2prss.node.saved_feeds import KIND, UNREADABLE_STEP, SavedFeed, decode_feed
from p2prss.units import GB, KIB

OLDEST_YEAR: Final = 2025  # no clock is right that says less
FUTURE_SECONDS: Final = 3600  # that files of the home may be ahead of the clock
SYNC_BYTES: Final = 64 * KIB  # written at a time to see how long the disk takes
SYNC_TIMES: Final = 5  # of which the middle one counts
SLOW_SYNC: Final = 0.2  # seconds
SECRET_BYTES: Final = 32  # of the primary key
ROOM: Final = 2  # times what has to stay free: below, a warning
PACKAGE: Final = Path(__file__).parents[1]
SYNCHRONIZED: Final = Path("/run/systemd/timesync/synchronized")

_MAGIC: Final = b"SQLite format 3\0"
_VERSION_AT: Final = 60  # bytes into the database: its user_version, u32 big-endian
_HEADER_BYTES: Final = 100


def check_machine(home: HomePaths) -> Iterator[Check]:
    """All of it. Never raises: what cannot be looked at is a finding, too."""
    yield guarded("home", lambda: check_home(home))
    if _is_there(home.path):
        yield guarded("database", lambda: check_database(home))
        yield guarded("keys", lambda: check_keys(home))
    yield guarded("disk", lambda: check_disk(home))
    yield guarded("clock", lambda: check_clock(home))


def check_home(home: HomePaths) -> Check:
    """Can a node live there?"""
    path = home.path
    if not path.exists() and not path.is_symlink():
        parent = _nearest(path)
        if not parent.is_dir():
            return problem(
                "home", StorageError, f"{parent} is in the way: no folder", "choose another --home"
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            return problem(
                "home",
                P2prssError,
                f"{path} is not there, and {parent} is not ours to write to",
                "choose another --home",
            )
        return ok(
            "home", f"{path} is not there yet; the first publish, follow or seed makes it", exists=False
        )
    if not path.is_dir():
        return problem(
            "home", StorageError, f"{path} is no folder", "choose another --home, or move that file away"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return problem(
            "home",
            StorageError,
            f"{path} is not ours to write to",
            "let the user who runs p2prss own that folder",
        )
    return ok("home", f"{path} is there and ours to write to", exists=True)


def lock_holder(home: HomePaths) -> str | None:
    """Which process owns the home, as it says; None when nobody does. Raises: OSError."""
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def check_database(home: HomePaths) -> Check:
    """Is it one, of a version we know, and can it be read?"""
    name = "database"
    if not home.database.exists():
        return ok(name, "there is none yet", schema=None)
    with home.database.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    restore = "restore the home from a backup; keys/primary is what matters most"
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return problem(name, CorruptLogError, f"{home.database} is no database", restore)
    schema = int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big")
    known = f"schema {schema}; this version of p2prss knows {SCHEMA_VERSION}"
    if schema > SCHEMA_VERSION:
        return problem(name, SchemaError, f"a newer p2prss wrote it: {known}", "update p2prss", schema=schema)
    if damage := _damage(home):
        return problem(name, CorruptLogError, f"{home.database} is damaged: {damage}", restore, schema=schema)
    if schema < SCHEMA_VERSION:
        return ok(name, f"{known}, and will bring it up to date after a backup", schema=schema)
    if lost := _unreadable_feeds(home):
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        cause = f"{lost[0].key}: {lost[0].problem}{more}"
        keys = [feed.key for feed in lost]
        return problem(name, CorruptLogError, cause, UNREADABLE_STEP, feeds=keys)
    return ok(name, f"schema {schema}, as it should be", schema=schema)


def check_keys(home: HomePaths) -> Check:
    """Is the one secret there, whole, and ours alone? Its content is not read."""
    path = home.keys / "primary"
    try:
        found = path.stat()
    except FileNotFoundError:
        if not home.database.exists():
            return ok("keys", "there are none yet")
        return problem(
            "keys",
            CorruptLogError,
            f"{path} is missing: feeds of this home cannot be signed",
            "restore it from a backup",
        )
    if found.st_size != SECRET_BYTES:
        return problem(
            "keys",
            CorruptLogError,
            f"{path} has {found.st_size} bytes instead of {SECRET_BYTES}",
            "restore it from a backup",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        return warning("keys", f"others on this machine may read {path}", f"chmod 600 {path}")
    return ok("keys", "the primary key is there, and readable by its owner only")


def check_disk(home: HomePaths) -> Check:
    """Is there room, and how long until a write is safe?"""
    folder = _nearest(home.path)
    usage = shutil.disk_usage(folder)
    must = int(max(KEEP_FREE_BYTES, usage.total * KEEP_FREE_SHARE))
    free, files = f"{usage.free / GB:.1f} GB free", os.statvfs(folder)
    if usage.free < must:
        return problem(
            "disk",
            StorageError,
            f"{free}, and {must / GB:.1f} GB have to stay free: nothing more is fetched",
            "make room, or choose a --home on another disk",
            free_bytes=usage.free,
        )
    if files.f_files and not files.f_favail:
        return problem(
            "disk", StorageError, f"{free}, but no more files can be made", "delete files on that disk"
        )
    seconds = None
    if _is_there(home.path):
        try:
            seconds = _sync_seconds(home.path)
        except OSError as error:
            what = f"{home.path} takes no data: {error.strerror}"
            return problem("disk", StorageError, what, "see what the system's log says about that disk")
    facts = {"free_bytes": usage.free, "sync_seconds": None if seconds is None else round(seconds, 6)}
    told = free if seconds is None else f"{free}; a write is safe after {seconds * 1000:.1f} ms"
    if usage.free < must * ROOM:
        return warning("disk", f"{told}; fetching stops at {must / GB:.1f} GB", "make room soon", **facts)
    if seconds is not None and seconds > SLOW_SYNC:
        return warning(
            "disk", f"{told}, which is slow", "use a disk that is not on a network or a card", **facts
        )
    return ok("disk", told, **facts)


def check_clock(home: HomePaths, now: float | None = None) -> Check:
    """Can the time be right? No packet tells: neither the DHT nor a web server is a source of time."""
    now = time() if now is None else now
    text = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    newest = max(map(_written_at, (PACKAGE / "__init__.py", home.database, home.lock)))
    set_it = "set it: timedatectl set-ntp true"
    if datetime.fromtimestamp(now, UTC).year < OLDEST_YEAR:
        return problem("clock", P2prssError, f"it says {text}, which is in the past", set_it, time=text)
    if newest > now + FUTURE_SECONDS:
        ahead = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d")
        return warning("clock", f"it says {text}, but files here are of {ahead}", set_it, time=text)
    if SYNCHRONIZED.exists():
        return ok("clock", f"it says {text}, and the system keeps it right", time=text)
    return unknown(
        "clock", f"it says {text}; that can be, but nothing here can tell", "compare it with a watch"
    )


def _written_at(path: Path) -> float:
    """When a file was written, by a clock that may have been right; 0 when there is none for us to see."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it may not look


def _is_there(path: Path) -> bool:
    """Whether it is a folder; one that we may not see is none to us."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where it may not look


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if _exists(place))


def _damage(home: HomePaths) -> str | None:
    """What SQLite finds wrong at first sight; it is not asked while others write, or did not finish."""
    log = home.database.with_name(f"{home.database.name}-wal")
    if lock_holder(home) is not None or (log.exists() and log.stat().st_size):
        return None
    try:
        with closing(_look_into(home)) as database:
            database.execute("SELECT count(*) FROM core").fetchone()
            database.execute("SELECT count(*) FROM record").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None


def _unreadable_feeds(home: HomePaths) -> list[SavedFeed]:
    """Saved feeds whose records can't be read; of a node that runs, too, as ``list`` does it."""
    is_live, log = lock_holder(home) is not None, home.database.with_name(f"{home.database.name}-wal")
    if not is_live and log.exists() and log.stat().st_size:
        return []  # the next start reads what is in there
    with suppress(sqlite3.Error), closing(_look_into(home, is_live=is_live)) as database:
        rows = database.execute("SELECT key, value FROM record WHERE kind = ?", (KIND,)).fetchall()
        return [feed for feed in (decode_feed(*row) for row in rows) if feed.problem]
    return []


def _look_into(home: HomePaths, *, is_live: bool = False) -> sqlite3.Connection:
    """The database, for reading only; if it is not live, nobody may write to it. Raises: sqlite3.Error."""
    options = "mode=ro" if is_live else "mode=ro&immutable=1"
    return sqlite3.connect(f"{home.database.as_uri()}?{options}", uri=True, isolation_level=None)


def _sync_seconds(folder: Path) -> float:
    """How long a small write takes until it is on the disk. Raises: OSError."""
    fd = _nameless_file(folder)
    try:
        taken = []
        for _ in range(SYNC_TIMES):
            started = perf_counter()
            os.write(fd, bytes(SYNC_BYTES))
            os.fsync(fd)
            taken.append(perf_counter() - started)
    finally:
        os.close(fd)
    return sorted(taken)[SYNC_TIMES // 2]


def _nameless_file(folder: Path) -> int:
    """A file that is gone when it is closed, or when we are killed."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    fd, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return fd
