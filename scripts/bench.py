"""Benchmarks: p2prss and the JavaScript reference side by side, on this machine, in this run.

Every figure is the median of ``--runs`` runs, in fresh folders, with both sides taking turns so that
a change of the machine's mood meets both.  Data is incompressible, blocks are durable when an append
returns (p2prss; the reference leaves that to its database), what was written before is brought to the
disk before the clock starts, and nothing here is ever a test.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import trio
from rich.console import Console
from rich.table import Table

from p2prss.units import KIB, MB, MIB
from scripts import bench_p2prss, bench_play, bench_serve
from tests.interop.js_peer import JsPeer

_BATCH: Final = 128  # blocks per append
_NETWORK_NODES: Final = 8  # of the DHT that both sides use
_SIDES: Final = ("p2prss", "reference")
_WIDTH: Final = 120  # columns, where the output is no terminal
_ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Load:
    """How much is moved: ``blocks`` blocks of ``block_size`` bytes."""

    blocks: int
    block_size: int

    @property
    def bytes(self) -> int:
        return self.blocks * self.block_size


Side = Callable[[Path, Load], Awaitable[float]]
"""One run in an empty folder; returns seconds."""


@dataclass(frozen=True)
class Benchmark:
    """One row of the table."""

    name: str
    title: str
    budget: str
    ours: Side
    reference: Side | None = None
    moves_load: bool = True  # then the rate is shown too


async def reference_append(directory: Path, load: Load) -> float:
    async with JsPeer.open(directory / "store") as peer:
        core = await peer.open_core(name="bench")
        result = await peer.bench_append(core.key, load.blocks, load.block_size, _BATCH)
        assert result.byte_length == load.bytes
        return result.seconds


async def reference_replicate(directory: Path, load: Load) -> float:
    async with JsPeer.open(directory / "writer") as writer, JsPeer.open(directory / "reader") as reader:
        core = (await writer.open_core(name="bench")).key
        await writer.bench_append(core, load.blocks, load.block_size, _BATCH)
        await bench_p2prss.settle()
        await reader.open_core(key=core)
        result = await reader.bench_download(core, await writer.listen(), load.blocks)
        assert result.contiguous_length == load.blocks
        return result.seconds


async def our_append(directory: Path, load: Load) -> float:
    return await bench_p2prss.append(directory, load.blocks, load.block_size, _BATCH)


async def our_replicate(directory: Path, load: Load) -> float:
    return await bench_p2prss.replicate(directory, load.blocks, load.block_size, _BATCH)


async def reference_replicate_by_key(directory: Path, load: Load) -> float:
    async with (
        JsPeer.open(directory / "network") as network,
        JsPeer.open(directory / "writer") as writer,
        JsPeer.open(directory / "reader") as reader,
    ):
        bootstrap = await network.testnet(_NETWORK_NODES)
        core = (await writer.open_core(name="bench")).key
        await writer.bench_append(core, load.blocks, load.block_size, _BATCH)
        await bench_p2prss.settle()
        await writer.join(core, bootstrap, client=False)
        await reader.open_core(key=core)
        started = trio.current_time()
        await reader.join(core, bootstrap, server=False)
        await reader.wait_length(core, load.blocks)
        info = await reader.download(core, 0, load.blocks)
        seconds = trio.current_time() - started
        assert info.contiguous_length == load.blocks
        return seconds


async def our_replicate_by_key(directory: Path, load: Load) -> float:
    async with JsPeer.open(directory / "network") as network:
        bootstrap = await network.testnet(_NETWORK_NODES)
        shape = load.blocks, load.block_size, _BATCH
        return await bench_p2prss.replicate_by_key(directory, *shape, bootstrap)


async def our_publish(directory: Path, load: Load) -> float:
    return await bench_p2prss.publish(directory, load.bytes)


async def our_first_byte(directory: Path, _: Load) -> float:
    return await bench_play.first_byte(directory)


async def our_seek(directory: Path, _: Load) -> float:
    return await bench_play.seek(directory)


async def our_seek_while_playing(directory: Path, _: Load) -> float:
    return await bench_play.seek_while_playing(directory)


async def our_serve(directory: Path, load: Load) -> float:
    return await bench_serve.stream(directory, load.bytes)


async def our_listeners(directory: Path, load: Load) -> float:
    return await bench_play.listeners(directory, load.bytes)


async def our_feed_cold(directory: Path, _: Load) -> float:
    return await bench_serve.feed_cold(directory)


async def our_feed_unchanged(directory: Path, _: Load) -> float:
    return await bench_serve.feed_unchanged(directory)


async def our_help_time(_directory: Path, _: Load) -> float:
    return await bench_p2prss.help_time()


BENCHMARKS: Final = (
    Benchmark("append", "append: hash, store, sign", ">= 1.5 x reference", our_append, reference_append),
    Benchmark(
        "replicate",
        "replicate over loopback TCP, verified and stored",
        ">= 2.5 x reference",
        our_replicate,
        reference_replicate,
    ),
    Benchmark(
        "replicate-by-key",
        "likewise found in a DHT, over UDX",
        ">= 1.0 x reference",
        our_replicate_by_key,
        reference_replicate_by_key,
    ),
    Benchmark("publish", "publish from a local origin", ">= 150 MB/s", our_publish),
    Benchmark(
        "first-byte", "first byte of an episode only a peer has", "< 100 ms", our_first_byte, moves_load=False
    ),
    Benchmark("seek", "likewise of its middle", "< 150 ms", our_seek, moves_load=False),
    Benchmark(
        "seek-playing",
        "likewise while its start is played",
        "< 150 ms",
        our_seek_while_playing,
        moves_load=False,
    ),
    Benchmark("serve", "serve a local episode to curl", ">= 300 MB/s", our_serve),
    Benchmark("listeners", "likewise to 50 at once", "none starves", our_listeners),
    Benchmark("serve-feed", "serve a feed of 5,000 items, cold", "< 1 s", our_feed_cold, moves_load=False),
    Benchmark("serve-304", "likewise unchanged: 304", "< 10 ms", our_feed_unchanged, moves_load=False),
    Benchmark("help-time", "p2prss --help", "< 0.4 s", our_help_time, moves_load=False),
)


@dataclass
class Result:
    """Seconds of all runs of one benchmark, and why a side has none."""

    benchmark: Benchmark
    seconds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in _SIDES})
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, side: str) -> float | None:
        return statistics.median(self.seconds[side]) if self.seconds[side] else None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the reference."""
        ours, theirs = self.median("p2prss"), self.median("reference")
        return theirs / ours if ours and theirs else None


async def measure(benchmark: Benchmark, load: Load, runs: int, sides: Sequence[str], scratch: Path) -> Result:
    """Run one benchmark; what fails is reported in the table and does not end the others."""
    result = Result(benchmark)
    runners = {"p2prss": benchmark.ours, "reference": benchmark.reference}
    for _ in range(runs):
        for side in sides:
            run = runners[side]
            if run is None or side in result.failures:
                continue
            directory = Path(tempfile.mkdtemp(prefix=f"{benchmark.name}-", dir=scratch))
            await bench_p2prss.settle()
            try:
                result.seconds[side].append(await run(directory, load))
            except Exception as error:  # noqa: BLE001  (whatever broke is a line under the table)
                result.failures[side] = _cause(error)
            finally:
                await trio.to_thread.run_sync(shutil.rmtree, directory, True)
    return result


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def show(results: Sequence[Result], load: Load, facts: dict[str, Any]) -> None:
    """The table, on stdout; what failed stands below it."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(" · ".join(f"{name} {value}" for name, value in facts.items()), style="dim")
    table = Table("what", *_SIDES, "ratio", "budget")
    for result in results:
        moved = load.bytes if result.benchmark.moves_load else None
        figures = [_figure(result.median(side), moved) for side in _SIDES]
        ratio = "" if result.ratio is None else f"{result.ratio:.2f} x"
        table.add_row(result.benchmark.title, *figures, ratio, result.benchmark.budget)
    console.print(table)
    for result in results:
        for side, failure in result.failures.items():
            console.print(f"{result.benchmark.name}, {side}: {failure}", style="red", markup=False)


def _figure(seconds: float | None, moved: int | None) -> str:
    if seconds is None:
        return "-"
    time = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    return f"{time}, {moved / seconds / MB:.0f} MB/s" if moved else time


def environment(runs: int, load: Load) -> dict[str, Any]:
    """What a reader must know to compare the figures with others."""
    node = shutil.which("node")
    packages = json.loads((_ROOT / "tests/interop/package.json").read_text("utf-8"))["dependencies"]
    return {
        "runs": runs,
        "load": f"{load.blocks} x {load.block_size // KIB} KiB = {load.bytes // MIB} MiB",
        "cores": os.cpu_count(),
        "p2prss": version("p2prss"),
        "python": platform.python_version(),
        "hypercore": packages["hypercore"] if node else "none",
    }


def main() -> int:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=[*names, "all"], help="what to measure")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each side (default: 3)")
    parser.add_argument("--mib", type=int, default=512, metavar="N", help="load in MiB (default: 512)")
    parser.add_argument("--block-kib", type=int, default=64, metavar="N", help="block size (default: 64)")
    parser.add_argument("--only", choices=_SIDES, help="measure one side only")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to write (default: the temp folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()

    load = Load(arguments.mib * MIB // (arguments.block_kib * KIB), arguments.block_kib * KIB)
    sides = [arguments.only] if arguments.only else _SIDES
    chosen = [b for b in BENCHMARKS if arguments.benchmark in (b.name, "all")]
    with tempfile.TemporaryDirectory(prefix="p2prss-bench-", dir=arguments.dir) as scratch:
        results = []
        for benchmark in chosen:
            print(f"measuring {benchmark.name} …", file=sys.stderr)
            results.append(trio.run(measure, benchmark, load, arguments.runs, sides, Path(scratch)))

    facts = environment(arguments.runs, load)
    if arguments.json:
        rows = {
            r.benchmark.name: {"seconds": r.seconds, "ratio": r.ratio, "failures": r.failures}
            for r in results
        }
        print(json.dumps({"environment": facts, "results": rows}, indent=2))
    else:
        show(results, load, facts)
    return int(any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main())
