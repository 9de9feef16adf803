"""The p2prss half of the benchmarks, each run in processes of its own.

``append`` and ``replicate`` use the library, in workers: ``python -m scripts.bench_p2prss WORKER …``.
``publish`` and ``help_time`` use the program as its users do.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from p2prss.units import KIB, MB

_ROOT: Final = Path(__file__).parents[1]
PROGRAM: Final = Path(sys.executable).with_name("p2prss")
_POOL_BYTES: Final = 16 * MB  # random data that blocks are cut from
_EPISODE_BYTES: Final = 32 * MB
_START_SECONDS: Final = 60
_MEMORY_SECONDS: Final = 0.1  # between looks at how much memory a program has
_LIMIT_SECONDS: Final = 900
QUIET_NETWORK: Final = ("--no-dht", "--no-lan")


# ---------------------------------------------------------------------------- the program's outside


class Lines:
    """The JSON lines a running program prints."""

    def __init__(self, process: trio.Process, name: str) -> None:
        assert process.stdout is not None
        self.process = process
        self._name = name
        self._stdout = process.stdout
        self._pending = b""
        self.peak_bytes = 0  # the most memory the program has had

    async def next(self) -> dict[str, Any]:
        """The next line.

        Raises: RuntimeError when the program ends before it came.
        """
        while b"\n" not in self._pending:
            chunk = await self._stdout.receive_some()
            if not chunk:
                raise RuntimeError(f"{self._name} ended too early")
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    async def events(self, *names: str) -> list[dict[str, Any]]:
        """Wait until each of these events has come, in whatever order; the first of each is returned."""
        found: dict[str, dict[str, Any]] = {}
        while not found.keys() >= set(names):
            message = await self.next()
            found.setdefault(message["event"], message)
        return [found[name] for name in names]

    async def watch_memory(self) -> None:
        """Keep ``peak_bytes`` up to date until cancelled, or the program ends."""
        status = trio.Path(f"/proc/{self.process.pid}/status")
        while found := re.search(r"VmHWM:\s+(\d+) kB", await status.read_text("ascii")):
            self.peak_bytes = int(found[1]) * KIB
            await trio.sleep(_MEMORY_SECONDS)


@asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[Lines]:
    """A program that lives until the block ends; its stdin stays open as long."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    process = await trio.lowlevel.open_process(
        [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    try:
        with trio.fail_after(_LIMIT_SECONDS):
            yield Lines(process, " ".join(str(part) for part in command[1:6]))
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            process.terminate()
            with trio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def _worker(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "scripts.bench_p2prss", name, *(str(a) for a in arguments)]


async def append(directory: Path, blocks: int, block_size: int, batch: int) -> float:
    """Seconds to append that many blocks to an empty log."""
    async with running(*_worker("append", directory / "home", blocks, block_size, batch)) as worker:
        return float((await worker.next())["seconds"])


async def settle() -> None:
    """Bring to the disk what somebody left to the kernel: nobody's run is to pay another's debts."""
    await trio.to_thread.run_sync(os.sync)


async def replicate(directory: Path, blocks: int, block_size: int, batch: int) -> float:
    """Seconds from dialling until another process has verified and stored all blocks."""
    async with running(*_worker("append", directory / "a", blocks, block_size, batch)) as worker:
        key = (await worker.next())["key"]
    await settle()
    async with running(*_worker("serve", directory / "a", key)) as server:
        port = (await server.next())["port"]
        async with running(*_worker("fetch", directory / "b", key, port, blocks)) as reader:
            return float((await reader.next())["seconds"])


async def replicate_by_key(
    directory: Path, blocks: int, block_size: int, batch: int, bootstrap: int
) -> float:
    """Likewise from looking the topic up in a DHT, whose node is at that port, over UDX."""
    async with running(*_worker("append", directory / "a", blocks, block_size, batch)) as worker:
        key = (await worker.next())["key"]
    await settle()
    async with running(*_worker("announce", directory / "a", key, bootstrap)) as server:
        await server.next()
        async with running(*_worker("find", directory / "b", key, bootstrap, blocks)) as reader:
            return float((await reader.next())["seconds"])


async def help_time() -> float:
    """Seconds of ``p2prss --help``."""
    started = time.perf_counter()
    await trio.run_process([str(PROGRAM), "--help"], capture_stdout=True)
    return time.perf_counter() - started


async def publish(directory: Path, size: int) -> float:
    """Seconds from starting ``publish`` until a show of ``size`` bytes is mirrored and signed."""
    async with _origin(directory / "origin", max(1, size // _EPISODE_BYTES), _EPISODE_BYTES) as feed_url:
        started = time.perf_counter()
        arguments = ("publish", feed_url, "--all", "--once", "--yes", "--no-http", *QUIET_NETWORK)
        async with (
            running(PROGRAM, "--json", "--home", directory / "home", *arguments) as program,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(program.watch_memory)
            (published,) = await program.events("published")
            seconds = time.perf_counter() - started
            nursery.cancel_scope.cancel()
        assert published["bytes"] >= size // _EPISODE_BYTES * _EPISODE_BYTES
        print(f"  peak memory of publish: {program.peak_bytes / MB:.0f} MB", file=sys.stderr)
        return seconds


@asynccontextmanager
async def _origin(directory: Path, episodes: int, size: int) -> AsyncIterator[str]:
    """A plain web server on loopback with a show of that many episodes; yields the feed's URL."""
    await trio.to_thread.run_sync(_write_episodes, directory, episodes, size)
    server = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(directory), "0"]
    process = await trio.lowlevel.open_process(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        announced = b""
        with trio.fail_after(_START_SECONDS):
            while not (port := re.search(rb"port (\d+)", announced)):
                announced += await process.stdout.receive_some()
        url = f"http://127.0.0.1:{int(port[1])}"
        await trio.to_thread.run_sync(_write_feed, directory, url, episodes, size)
        yield f"{url}/feed.xml"
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _write_episodes(directory: Path, episodes: int, size: int) -> None:
    directory.mkdir()
    for number in range(episodes):
        noise = os.urandom(MB)
        with (directory / f"{number}.mp3").open("wb") as file:
            file.write(b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\0")  # enough of an MP3 for whoever sniffs
            while (missing := size - file.tell()) > 0:
                file.write(noise[:missing])


def _write_feed(directory: Path, url: str, episodes: int, size: int) -> None:
    items = "".join(
        f"<item><title>Episode {n}</title><guid isPermaLink='false'>{n}</guid>"
        f"<pubDate>Mon, 05 Jan 2026 10:{n:02d}:00 +0000</pubDate>"
        f"<enclosure url='{url}/{n}.mp3' length='{size}' type='audio/mpeg'/></item>"
        for n in range(episodes)
    )
    text = f"<rss version='2.0'><channel><title>Bench</title><link>{url}</link>{items}</channel></rss>"
    (directory / "feed.xml").write_text(text, "utf-8")


# ------------------------------------------------------------------------------------- the workers


def _append(home: Path, blocks: int, block_size: int, batch: int) -> None:
    """Append to a new log and print key and seconds; only the appends are timed."""
    from p2prss.log.store import Store

    store = Store.open(home)
    log = store.create("bench")
    pool = os.urandom(_POOL_BYTES)
    seconds = 0.0
    for start in range(0, blocks, batch):
        numbers = range(start, min(start + batch, blocks))
        places = ((number, number * block_size % (_POOL_BYTES - block_size)) for number in numbers)
        # numbered, so that no two blocks are equal
        data = [number.to_bytes(4, "little") + pool[at + 4 : at + block_size] for number, at in places]
        started = time.perf_counter()
        log.append(data)
        seconds += time.perf_counter() - started
    assert (log.length, log.byte_length) == (blocks, blocks * block_size)
    _print({"key": log.key.hex(), "seconds": seconds})
    store.close()


async def _serve(home: Path, key: bytes) -> None:
    """Share a log until stdin is closed."""
    from p2prss.crypto.keys import CoreKey
    from p2prss.log.store import Store
    from p2prss.net.address import Address
    from p2prss.net.exchange import Exchange
    from p2prss.net.tcp import bound_address, open_listeners, serve_listener

    store = Store.open(home)
    async with trio.open_nursery() as nursery:
        exchange = Exchange(store, nursery)
        exchange.session(store.open_log(CoreKey(key)), eager=True)
        listener = (await open_listeners(Address("127.0.0.1", 0)))[0]
        nursery.start_soon(serve_listener, listener, exchange.use_stream, nursery)
        _print({"port": bound_address(listener).port})
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    store.close()


async def _fetch(home: Path, key: bytes, port: int, blocks: int) -> None:
    """Fetch all blocks of a log and print the seconds from dialling on."""
    from random import Random

    from p2prss.crypto.keys import CoreKey
    from p2prss.log.store import Store
    from p2prss.net.address import Address
    from p2prss.net.core import PeerCore
    from p2prss.net.exchange import Exchange
    from p2prss.net.tcp import Dialer

    store = Store.open(home)
    log = store.open_log(CoreKey(key))
    async with trio.open_nursery() as nursery:
        exchange = Exchange(store, nursery)
        core = PeerCore(exchange.session(log, eager=True))
        started = time.perf_counter()
        nursery.start_soon(Dialer(Address("127.0.0.1", port), exchange.use_stream, Random(1)).run)
        await core.download(0, blocks)
        seconds = time.perf_counter() - started
        assert log.contiguous_length == blocks
        _print({"seconds": seconds})
        nursery.cancel_scope.cancel()
    store.close()


async def _in_swarm(home: Path, key: bytes, bootstrap: int, blocks: int) -> None:
    """Join a log's swarm: fetch all ``blocks`` and print the seconds, or share it if that is 0."""
    from random import Random

    from p2prss.crypto.keys import CoreKey
    from p2prss.log.store import Store
    from p2prss.net.connect.network import open_network
    from p2prss.net.core import PeerCore
    from p2prss.net.exchange import Exchange
    from p2prss.net.swarm.swarm import Swarm

    store = Store.open(home)
    log = store.open_log(CoreKey(key))
    async with trio.open_nursery() as nursery:
        exchange = Exchange(store, nursery)
        core = PeerCore(exchange.session(log, eager=True))
        bootstraps = [f"127.0.0.1:{bootstrap}"]
        async with open_network(exchange.key_pair, bootstraps=bootstraps, host="127.0.0.1") as network:
            await network.dht.wait_bootstrapped()
            swarm = Swarm(network, exchange, Random(1))
            nursery.start_soon(swarm.run)
            started = time.perf_counter()
            swarm.join(log.discovery_key, server=not blocks, client=bool(blocks))
            if blocks:
                await core.download(0, blocks)
                _print({"seconds": time.perf_counter() - started})
                assert log.contiguous_length == blocks
            else:
                while not swarm.statistics().announced:  # noqa: ASYNC110  (nobody tells)
                    await trio.sleep(0.05)
                _print({"announced": True})
                await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
    store.close()


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["append", home, blocks, block_size, batch]:
            _append(Path(home), int(blocks), int(block_size), int(batch))
        case ["serve", home, key]:
            trio.run(_serve, Path(home), bytes.fromhex(key))
        case ["fetch", home, key, port, blocks]:
            trio.run(_fetch, Path(home), bytes.fromhex(key), int(port), int(blocks))
        case ["announce", home, key, bootstrap]:
            trio.run(_in_swarm, Path(home), bytes.fromhex(key), int(bootstrap), 0)
        case ["find", home, key, bootstrap, blocks]:
            trio.run(_in_swarm, Path(home), bytes.fromhex(key), int(bootstrap), int(blocks))
        case _:
            sys.exit(f"unknown worker: {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
