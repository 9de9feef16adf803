"""A Hypercore peer made of the JavaScript reference, as a trio object.

``JsPeer.open`` starts ``peer.js`` beside this file and ends it again.  Each method is one command of
that program and returns when it has answered, so several tasks may have commands under way.  Bound
the wait with ``trio.fail_after``: a command of a peer that finds nobody to ask never answers.

Sizes are bytes, ranges of blocks and bytes are half open, keys are hex, clock readings (``at``) are
seconds since 1970.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import trio

_HERE: Final = Path(__file__).parent
_LIFETIME_SECONDS: Final = 15 * 60  # a peer that lost its test ends by itself
_START_SECONDS: Final = 30  # loading the native addons on a busy machine
_STOP_SECONDS: Final = 8  # peer.js gives up closing in order after five
_READ_SIZE: Final = 256 * 1024  # bytes


class JsPeerError(Exception):
    """The reference answered a command with an error; ``code`` is its code or the error's name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all answers: camelCase members of the program, snake_case here."""


class CoreInfo(_Answer, frozen=True):
    """State of a core in the peer's store; ``held`` blocks are those of ``JsPeer.held``."""

    key: str
    discovery_key: str
    public_key: str | None  # the key pair's, when there is one
    compat: bool
    writable: bool
    length: int  # blocks
    byte_length: int
    contiguous_length: int  # blocks held without a gap from the start
    fork: int
    tree_hash: str


class Seek(_Answer, frozen=True):
    """Where a byte lies: ``offset`` bytes into block ``index``."""

    index: int
    offset: int


class DriveInfo(_Answer, frozen=True):
    """State of a drive; ``content_key`` is None until a reader has its first block."""

    key: str
    discovery_key: str
    content_key: str | None
    writable: bool
    version: int


class BlobId(_Answer, frozen=True):
    """Where a file lies in the blobs core."""

    block_offset: int
    block_length: int  # blocks
    byte_offset: int
    byte_length: int
    block_map: bool = False


class DriveEntry(_Answer, frozen=True):
    """A path and what it stands for; ``blob`` is None for a symlink."""

    path: str
    seq: int
    executable: bool
    linkname: str | None
    blob: BlobId | None
    metadata: Any


class Content(_Answer, frozen=True):
    """Bytes the peer has read; ``held`` are the file's blocks that were local afterwards."""

    length: int
    sha256: str
    data: bytes = b""  # msgspec reads base64; empty when not asked for
    held: tuple[tuple[int, int], ...] = ()


class Change(_Answer, frozen=True):
    """One block of a drive's history; ``key`` is the raw key, as ``files`` NUL path."""

    type: str  # put or del
    seq: int
    key: str
    value: Any

    @property
    def path(self) -> str:
        return self.key.removeprefix("files\0")


class MirrorCount(_Answer, frozen=True):
    """What a mirror run did, in files."""

    files: int
    add: int
    remove: int
    change: int


class BenchResult(_Answer, frozen=True):
    """One timed run; lengths are blocks after it."""

    seconds: float
    length: int = 0
    byte_length: int = 0
    contiguous_length: int = 0


class Asked(_Answer, frozen=True):
    """A request that is not answered; ``peer`` is its place in ``CoreWaits.peers``, -1 when it is gone."""

    what: str
    peer: int
    age: float  # seconds


class CorePeer(_Answer, frozen=True):
    """A peer of a core as the reference sees it."""

    remote: str  # public key in the swarm
    port: int
    length: int  # blocks it says its core has
    fork: int
    acked: int  # blocks it says ours has
    can_upgrade: bool
    has: tuple[int, ...]  # how many blocks of each missing run it says it has
    inflight: int
    paused: bool
    uploading: bool
    timeouts: int  # of its UDX stream, in a row
    unacknowledged: int  # bytes
    received: int  # bytes


class CoreWaits(_Answer, frozen=True):
    """What one open core of the reference waits for; ``missing`` are runs of blocks."""

    key: str
    length: int
    fork: int
    missing: tuple[tuple[int, int], ...]
    asked: tuple[Asked, ...]
    queued: tuple[int, ...]  # blocks to be asked for as soon as somebody has them
    ranges: tuple[tuple[int, int], ...]
    upgrading: bool  # somebody waits for a longer core, or to hear that there is none
    unopened: int  # connections that have not said whether they have the core
    invalid: int  # answers that were wrong
    peers: tuple[CorePeer, ...]


def find_node() -> str:
    """The Node program (``NODE`` overrides); tests fail rather than skip when it is missing."""
    node = os.environ.get("NODE") or shutil.which("node")
    if node is None:
        raise FileNotFoundError("node is not installed; scripts/test says how to get it")
    if not (_HERE / "node_modules" / "hypercore").is_dir():
        raise FileNotFoundError("the reference packages are not installed: run scripts/test once")
    return node


class JsPeer:
    """One running ``peer.js`` over one Corestore directory.

    Public facts: ``primary_key`` (hex) and ``pid``.  ``events`` collects what the program says on its
    own (``connection``, ``disconnected``), newest last.
    """

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: trio.abc.SendStream = process.stdin
        self._stdout: trio.abc.ReceiveStream = process.stdout
        self._process = process
        self._sending = trio.Lock()
        self._last_id = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._ready = trio.Event()
        self._gone = False
        self.events: list[dict[str, Any]] = []
        self.primary_key = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, *, primary_key: bytes | None = None) -> AsyncIterator[Self]:
        """Run a peer whose Corestore lies in ``directory`` (made when missing) until the block ends."""
        await trio.Path(directory).mkdir(parents=True, exist_ok=True)
        command = [find_node(), str(_HERE / "peer.js"), "--storage", str(directory)]
        command += ["--lifetime", str(_LIFETIME_SECONDS)]
        if primary_key is not None:
            command += ["--primary-key", primary_key.hex()]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        peer = cls(process)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer._read)
                with trio.fail_after(_START_SECONDS):
                    await peer._ready.wait()
                if peer._gone:
                    raise JsPeerError("exit", f"{' '.join(command)} ended at once; its stderr says why")
                yield peer
                nursery.cancel_scope.cancel()
        finally:
            await peer._stop()

    async def call(self, command: str, **members: Any) -> Any:
        """Send one command and wait for its answer.

        Raises: JsPeerError when the program answers with an error, or is gone (code ``exit``).
        """
        self._last_id += 1
        command_id = self._last_id
        line = json.dumps({"id": command_id, "do": command, **members}) + "\n"
        answers, answer = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[command_id] = answers
        try:
            async with self._sending:
                await self._stdin.send_all(line.encode())
            if self._gone:
                raise trio.EndOfChannel
            reply = await answer.receive()
        except (trio.BrokenResourceError, trio.EndOfChannel):
            raise JsPeerError("exit", f"the program ended before it answered {command}") from None
        finally:
            self._waiting.pop(command_id, None)
            answers.close()
        if "error" in reply:
            raise JsPeerError(reply["error"]["code"], reply["error"]["message"])
        return reply["ok"]

    # -- cores

    async def open_core(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        seed: bytes | None = None,
        compat: bool = False,
        manifest: dict[str, Any] | None = None,
    ) -> CoreInfo:
        """Open a core: by ``name`` (writable), by ``key`` (anybody's), or from a key pair's ``seed``,
        alone, with a ``manifest`` (members as in the reference, keys hex) or as a ``compat`` core."""
        members: dict[str, Any] = {"name": name, "key": key, "manifest": manifest}
        members["seed"] = seed.hex() if seed is not None else None
        given = {member: value for member, value in members.items() if value is not None}
        return msgspec.convert(await self.call("openCore", compat=compat, **given), CoreInfo)

    async def core_info(self, core: str) -> CoreInfo:
        return msgspec.convert(await self.call("coreInfo", core=core), CoreInfo)

    async def append(self, core: str, blocks: Iterable[bytes]) -> CoreInfo:
        encoded = [_base64(block) for block in blocks]
        return msgspec.convert(await self.call("append", core=core, blocks=encoded), CoreInfo)

    async def truncate(self, core: str, length: int, *, fork: int | None = None) -> CoreInfo:
        members = {} if fork is None else {"fork": fork}
        return msgspec.convert(await self.call("truncate", core=core, length=length, **members), CoreInfo)

    async def get(self, core: str, index: int, *, wait: bool = True) -> bytes | None:
        """A block, asked of the peers when it is not held; None only without ``wait``."""
        answer = await self.call("get", core=core, index=index, wait=wait)
        return None if answer is None else base64.b64decode(answer["data"])

    async def seek(self, core: str, byte_offset: int) -> Seek | None:
        return msgspec.convert(await self.call("seek", core=core, byteOffset=byte_offset), Seek | None)

    async def download(self, core: str, start: int = 0, stop: int | None = None) -> CoreInfo:
        """Wait until the blocks are held; ``stop`` None means the length of now."""
        return msgspec.convert(await self.call("download", core=core, start=start, stop=stop), CoreInfo)

    async def held(self, core: str, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
        """Ranges of blocks the peer has, in ascending order."""
        answer = await self.call("held", core=core, start=start, stop=stop)
        return msgspec.convert(answer, list[tuple[int, int]])

    async def clear(self, core: str, start: int, stop: int) -> CoreInfo:
        return msgspec.convert(await self.call("clear", core=core, start=start, stop=stop), CoreInfo)

    async def update(self, core: str) -> CoreInfo:
        """Ask the connected peers for a newer head."""
        return msgspec.convert(await self.call("update", core=core), CoreInfo)

    async def wait_length(self, core: str, length: int, *, fork: int = 0) -> float:
        """Wait until the core has at least this length and fork; returns the clock reading then."""
        answer = await self.call("waitLength", core=core, length=length, fork=fork)
        return float(answer["at"]) / 1000

    async def core_stats(self, core: str) -> dict[str, Any]:
        """The reference's counters of a core: ``peers`` and messages by kind, sent and received."""
        answer: dict[str, Any] = await self.call("coreStats", core=core)
        return answer

    # -- drives

    async def open_drive(self, *, name: str | None = None, key: str | None = None) -> DriveInfo:
        """Open a drive by ``name`` (own, one namespace each) or ``key``; neither: the store's root."""
        members = {"name": name, "key": key}
        given = {member: value for member, value in members.items() if value is not None}
        return msgspec.convert(await self.call("openDrive", **given), DriveInfo)

    async def drive_info(self, drive: str) -> DriveInfo:
        return msgspec.convert(await self.call("driveInfo", drive=drive), DriveInfo)

    async def update_drive(self, drive: str) -> DriveInfo:
        """Ask the connected peers for a newer version."""
        return msgspec.convert(await self.call("updateDrive", drive=drive), DriveInfo)

    async def blobs(self, drive: str) -> CoreInfo:
        """The drive's blobs core; waits until its key is known."""
        return msgspec.convert(await self.call("blobs", drive=drive), CoreInfo)

    async def put(
        self,
        drive: str,
        path: str,
        content: bytes | Path,
        *,
        executable: bool = False,
        metadata: Any = None,
        dedup: bool = False,
    ) -> DriveInfo:
        """Write a file from bytes or from a file of this machine; ``dedup`` makes a block map."""
        source = {"file": str(content)} if isinstance(content, Path) else {"data": _base64(content)}
        options = {"executable": executable, "metadata": metadata, "dedup": dedup}
        return msgspec.convert(await self.call("put", drive=drive, path=path, **source, **options), DriveInfo)

    async def delete(self, drive: str, path: str) -> DriveInfo:
        return msgspec.convert(await self.call("del", drive=drive, path=path), DriveInfo)

    async def symlink(self, drive: str, path: str, target: str) -> DriveInfo:
        return msgspec.convert(await self.call("symlink", drive=drive, path=path, target=target), DriveInfo)

    async def batch(self, drive: str, operations: Sequence[tuple[str, str, bytes | str | None]]) -> DriveInfo:
        """One batch of ``(put, path, bytes)``, ``(del, path, None)``, ``(symlink, path, target)``."""
        encoded = [
            [kind, path, _base64(value) if isinstance(value, bytes) else value]
            for kind, path, value in operations
        ]
        return msgspec.convert(await self.call("batch", drive=drive, operations=encoded), DriveInfo)

    async def entry(
        self, drive: str, path: str, *, version: int = 0, follow: bool = False
    ) -> DriveEntry | None:
        answer = await self.call("entry", drive=drive, path=path, version=version, follow=follow)
        return msgspec.convert(answer, DriveEntry | None)

    async def entries(self, drive: str, folder: str = "/", *, version: int = 0) -> list[DriveEntry]:
        """All entries below a folder, of the newest or of an older version."""
        answer = await self.call("list", drive=drive, folder=folder, version=version)
        return msgspec.convert(answer, list[DriveEntry])

    async def read(self, drive: str, path: str, *, version: int = 0, data: bool = False) -> Content:
        """Read a whole file; its bytes are in the answer only when ``data`` is true."""
        answer = await self.call("read", drive=drive, path=path, version=version, data=data)
        return msgspec.convert(answer, Content)

    async def read_range(self, drive: str, path: str, start: int, stop: int) -> Content:
        """Read bytes ``[start, stop)``; ``held`` tells which blocks of the file that brought."""
        answer = await self.call("readRange", drive=drive, path=path, start=start, stop=stop)
        return msgspec.convert(answer, Content)

    async def mirror(self, drive: str, folder: Path) -> MirrorCount:
        """Make ``folder`` equal to the drive, as the reference's own tool does."""
        return msgspec.convert(await self.call("mirror", drive=drive, folder=str(folder)), MirrorCount)

    async def mirror_from(self, drive: str, folder: Path, *, dedup: bool = False) -> MirrorCount:
        """Make the drive equal to ``folder``; ``dedup`` cuts blocks by content and maps them."""
        answer = await self.call("mirrorFrom", drive=drive, folder=str(folder), dedup=dedup)
        return msgspec.convert(answer, MirrorCount)

    async def history(self, drive: str) -> list[Change]:
        return msgspec.convert(await self.call("history", drive=drive), list[Change])

    async def watch_once(self, drive: str, folder: str = "/") -> int:
        """Wait for the next change below a folder; returns the version it made."""
        answer = await self.call("watchOnce", drive=drive, folder=folder)
        return int(answer["version"])

    # -- connections

    async def listen(self, port: int = 0) -> int:
        """Replicate with everybody who connects; returns the port, on 127.0.0.1."""
        return int((await self.call("listen", port=port))["port"])

    async def stop_listening(self, port: int) -> None:
        """Take no more connections; those there are go on (see ``disconnect``)."""
        await self.call("stopListening", port=port)

    async def connect(self, port: int) -> None:
        """Replicate over one new connection; a lost one is not made again."""
        await self.call("connect", port=port)

    async def disconnect(self) -> None:
        """Drop every TCP connection."""
        await self.call("disconnect")

    async def testnet(self, size: int = 3) -> int:
        """Run a private HyperDHT of ``size`` nodes; returns the port of its bootstrap node."""
        return int((await self.call("testnet", size=size))["port"])

    async def join(
        self,
        key: str,
        bootstrap: int,
        *,
        server: bool = True,
        client: bool = True,
        firewalled: bool = False,
    ) -> str:
        """Announce and look up a core's or drive's topic; returns the peer's public key in the swarm.

        ``firewalled`` leaves the node as it is by default on loopback: it has to punch holes.
        """
        roles = {"server": server, "client": client, "firewalled": firewalled}
        answer = await self.call("join", key=key, bootstrap=bootstrap, **roles)
        return str(answer["publicKey"])

    async def stats(self) -> dict[str, int]:
        """Open sockets, swarm connections, and memory in bytes (``rss``, ``heapUsed``)."""
        return msgspec.convert(await self.call("stats"), dict[str, int])

    async def waits(self) -> list[CoreWaits]:
        """What each open core waits for, and where its peers stand."""
        return msgspec.convert(await self.call("waits"), list[CoreWaits])

    # -- benchmarks

    async def bench_append(self, core: str, count: int, size: int, batch: int) -> BenchResult:
        """Append ``count`` random blocks of ``size`` bytes, ``batch`` at a time; times the appends."""
        answer = await self.call("benchAppend", core=core, count=count, size=size, batch=batch)
        return msgspec.convert(answer, BenchResult)

    async def bench_download(self, core: str, port: int, length: int) -> BenchResult:
        """Connect and store all blocks; timed from before the connection is made."""
        answer = await self.call("benchDownload", core=core, port=port, length=length)
        return msgspec.convert(answer, BenchResult)

    # -- the shell

    async def _read(self) -> None:
        pending = bytearray()
        async for chunk in self._stdout:
            pending += chunk
            if b"\n" not in chunk:
                continue
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                self._take(json.loads(line))
        self._gone = True  # whoever waits for it hears so
        self._ready.set()
        for answers in self._waiting.values():
            answers.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.append(message)
            if message["event"] == "ready":
                self.primary_key = message["primaryKey"]
                self._ready.set()
        elif message["id"] in self._waiting:  # else its caller was cancelled
            self._waiting[message["id"]].send_nowait(message)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True):
            await self._stdin.aclose()
            with trio.move_on_after(_STOP_SECONDS):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self._stdout.aclose()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
