#!/usr/bin/env python3
"""A crowd that comes, goes and crashes: does everybody who stays get the show, and how soon?

    PYTHONPATH=. .venv/bin/python scripts/churn.py [--minutes 10] [--ours 30] [--theirs 30]

One p2prss publishes a small show on a private network of the reference's DHT nodes on loopback. ``ours``
places are taken by p2prss processes that follow it by key alone, ``theirs`` by processes of the reference
that mirror it with Hyperswarm. Each stays for a while after it has everything, then leaves politely or is
killed, and a new one with an empty home takes its place. Beside it a node looks the topic up every two
seconds. Prints what came of it; ends with 1 when somebody who stayed long enough did not complete.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from p2prss.crypto.hashes import discovery_key  # noqa: E402  (runs without an installation)
from p2prss.crypto.key_text import parse_key  # noqa: E402
from p2prss.errors import NetworkError  # noqa: E402
from p2prss.net.dht.client import open_dht  # noqa: E402
from tests.e2e.program import Program, run, running  # noqa: E402
from tests.e2e.show import LOCAL, Show  # noqa: E402
from tests.interop.js_peer import CoreWaits, JsPeer, JsPeerError  # noqa: E402

NETWORK_NODES = 16
PATIENCE = 180.0  # seconds in which whoever stays must have everything
SLOW = 10.0  # seconds after which, again and again, whoever has not everything is looked at
LOOKUP_PAUSE = 2.0  # seconds
ARRIVAL = 0.2  # of the time, in which the first of each place come: starting them takes breath


@dataclass
class Crowd:
    """What everybody shares, and what was seen."""

    key: str
    length: int  # blocks of its entries
    bootstrap: int
    folder: Path
    random: Random
    arrival: float  # seconds in which the first of each place come
    ends_at: float
    stay_seconds: float  # at most
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"p2prss": [], "reference": []})
    lookups: list[float] = field(default_factory=list)
    leaving: list[float] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    number: int = 0
    ports: dict[int, str] = field(default_factory=dict)  # whose UDP port it is, or was
    alive: dict[int, str] = field(default_factory=dict)  # names by process
    began: float = field(default_factory=trio.current_time)
    waiting: int = 0  # members that do not have everything yet
    complete: trio.Event = field(default_factory=trio.Event)  # set when there is one less

    def home(self) -> Path:
        self.number += 1
        return self.folder / f"member{self.number}"

    async def stay(self) -> None:
        """As long as a member stays once it has everything; in the end, until everybody has."""
        with trio.move_on_at(self.ends_at):
            await trio.sleep(self.random.uniform(5, self.stay_seconds))
        while trio.current_time() >= self.ends_at and self.waiting:
            await self.complete.wait()

    def gone(self, pid: int, how: str) -> None:
        """A member is about to go."""
        owner = self.alive.pop(pid)
        self.note_ports(pid, f"{owner} ({how} at {trio.current_time() - self.began:.0f} s)")

    def note_ports(self, pid: int, owner: str) -> None:
        """Remember whose a process's UDP ports are; once it has ended nobody can tell."""
        for port in udp_ports(pid):
            self.ports[port] = owner

    def describe(self, cores: Sequence[CoreWaits]) -> str:
        """What a member of the reference waits for, line by line."""
        for pid, owner in self.alive.items():
            self.note_ports(pid, owner)
        lines = []
        for core in cores:
            lines.append(
                f"core {core.key[:8]}: {core.length} blocks, missing {core.missing}, "
                f"queued {core.queued}, ranges {core.ranges}, upgrading {core.upgrading}, "
                f"{core.unopened} connections unopened, {core.invalid} invalid answers"
            )
            if not (core.asked or core.queued or core.ranges or core.upgrading):
                continue
            for place, peer in enumerate(core.peers):
                asked = ", ".join(
                    f"{one.what} for {one.age:.0f} s" for one in core.asked if one.peer == place
                )
                lines.append(
                    f"  {self.ports.get(peer.port, 'unknown')} port {peer.port}: {peer.length} blocks, "
                    f"acked {peer.acked}, can upgrade {peer.can_upgrade}, has {peer.has} of the missing, "
                    f"paused {peer.paused}, {peer.timeouts} timeouts, {peer.unacknowledged} bytes "
                    f"unacknowledged, {peer.received} received; asked {asked or 'nothing'}"
                )
        return "\n    ".join(lines)

    def completed(self) -> None:
        """One more has everything, or has given up."""
        self.waiting -= 1
        self.complete.set()
        self.complete = trio.Event()


def udp_ports(pid: int) -> set[int]:
    """The UDP ports a process listens on."""
    inodes = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(entry.readlink().name.removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/udp").read_text("ascii").splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[9] in inodes}


async def follow(crowd: Crowd, home: Path, how: str) -> None:
    """One p2prss member, from its start to its end."""
    arguments = (
        "follow",
        crowd.key,
        "--all",
        "--no-http",
        "--bootstrap",
        f"127.0.0.1:{crowd.bootstrap}",
    )
    started = trio.current_time()
    async with running(*arguments, home=home) as program:
        crowd.alive[program.pid] = f"p2prss {home.name}"
        with trio.move_on_after(PATIENCE) as patience:
            await program.event("synced", seconds=PATIENCE + 5)
        if patience.cancelled_caught:
            crowd.failures.append(f"p2prss: {program}")
        crowd.completed()
        if patience.cancelled_caught:
            return
        crowd.seconds["p2prss"].append(trio.current_time() - started)
        await crowd.stay()
        crowd.gone(program.pid, how)
        if how == "crash":
            await program.kill()
            return
        program.process.terminate()
        asked = trio.current_time()
        await program.process.wait()
        crowd.leaving.append(trio.current_time() - asked)


async def mirror(crowd: Crowd, home: Path, how: str) -> None:
    """One member of the reference."""
    started = trio.current_time()
    name, key = home.name, parse_key(crowd.key).hex()
    stage = "opening"

    async def report_slow() -> None:
        while True:
            await trio.sleep(SLOW)
            seconds = trio.current_time() - started
            crowd.count[f"reference: reports of a slow member, {stage}"] += 1
            print(
                f"{name}, {stage} for {seconds:.0f} s:\n    {crowd.describe(await peer.waits())}", flush=True
            )

    try:
        async with JsPeer.open(home / "store") as peer:
            crowd.alive[peer.pid] = f"reference {name}"
            with trio.move_on_after(PATIENCE) as patience:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(report_slow)
                    await peer.open_drive(key=key)
                    stage = "joining"
                    await peer.join(key, crowd.bootstrap)
                    stage = "finding somebody"
                    await peer.wait_length(key, crowd.length)
                    stage = "mirroring"
                    await peer.mirror(key, home / "mirror")
                    nursery.cancel_scope.cancel()
            if patience.cancelled_caught:
                crowd.failures.append(f"reference {name}, {stage}: {crowd.describe(await peer.waits())}")
            crowd.completed()
            if patience.cancelled_caught:
                return
            crowd.seconds["reference"].append(trio.current_time() - started)
            await crowd.stay()
            crowd.gone(peer.pid, how)
            if how == "crash":
                peer.kill()
    except JsPeerError as error:
        if error.code != "exit":
            raise


async def place(crowd: Crowd, kind: str) -> None:
    """Keep one place taken until the end."""
    await trio.sleep(crowd.random.uniform(0, crowd.arrival))
    while trio.current_time() < crowd.ends_at:
        home, how = crowd.home(), crowd.random.choice(("leave", "crash"))
        crowd.count[f"{kind}: {how}"] += 1
        crowd.waiting += 1
        try:
            await (follow if kind == "p2prss" else mirror)(crowd, home, how)
        except* trio.TooSlowError:  # the machine has no room for a new process
            crowd.count[f"{kind}: not started in time"] += 1
            crowd.completed()
        await trio.to_thread.run_sync(shutil.rmtree, home, True)
        await trio.sleep(crowd.random.uniform(0, 3))


async def look(crowd: Crowd) -> None:
    """Look the topic up again and again."""
    topic = discovery_key(parse_key(crowd.key))
    async with open_dht(bootstraps=[f"127.0.0.1:{crowd.bootstrap}"], host="127.0.0.1") as dht:
        await dht.wait_bootstrapped()
        while trio.current_time() < crowd.ends_at:
            started = trio.current_time()
            try:
                crowd.found.append(len((await dht.lookup(topic)).peers))
            except NetworkError as error:
                crowd.failures.append(f"lookup: {error}")
            crowd.lookups.append(trio.current_time() - started)
            await trio.sleep(LOOKUP_PAUSE)


async def memory(crowd: Crowd, publisher: Program) -> None:
    """Sometimes: how much memory the publisher takes."""
    status = trio.Path(f"/proc/{publisher.pid}/status")
    while True:
        text = await status.read_text("ascii")
        crowd.count["publisher's most memory, KiB"] = int(text.split("VmHWM:")[1].split()[0])
        crowd.count["publisher's memory at the end, KiB"] = int(text.split("VmRSS:")[1].split()[0])
        await trio.sleep(5)


def spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    place = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95)]
    return f"{len(ordered)}, median {place[0]:.2f} s, 95 % {place[1]:.2f} s, longest {ordered[-1]:.2f} s"


async def hand_over(crowd: Crowd, seeder: JsPeer) -> None:
    """Have a process of the reference take everything, so that it can take the publisher's place."""
    key = parse_key(crowd.key).hex()
    crowd.alive[seeder.pid] = "reference seeder"
    await seeder.open_drive(key=key)
    await seeder.join(key, crowd.bootstrap)
    await seeder.wait_length(key, crowd.length)
    blobs = (await seeder.blobs(key)).key
    for core in (key, blobs):
        await seeder.update(core)
        await seeder.download(core)


async def main(minutes: float, ours: int, theirs: int, stay: float, seed: int, reference_only: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="p2prss-churn-") as name:
        folder = Path(name)
        show = Show.make(folder / "show", LOCAL)
        async with AsyncExitStack() as stack:
            network = await stack.enter_async_context(JsPeer.open(folder / "network"))
            bootstrap = await network.testnet(NETWORK_NODES)
            told = (await run("publish", show.feed, "--once", "--no-http", home=folder / "a")).event(
                "published"
            )
            publisher = await stack.enter_async_context(
                running(
                    "publish",
                    show.feed,
                    "--no-http",
                    "--bootstrap",
                    f"127.0.0.1:{bootstrap}",
                    home=folder / "a",
                )
            )
            await publisher.event("ready")
            crowd = Crowd(
                told["key"],
                told["version"],
                bootstrap,
                folder,
                Random(seed),
                60 * ARRIVAL * minutes,
                trio.current_time() + 60 * minutes,
                stay,
            )
            crowd.alive[publisher.pid] = "p2prss publisher"
            if reference_only:
                seeder = await stack.enter_async_context(JsPeer.open(folder / "seeder"))
                await hand_over(crowd, seeder)
                crowd.gone(publisher.pid, "leave")
                await publisher.stop()
            async with trio.open_nursery() as watching:
                if not reference_only:
                    watching.start_soon(memory, crowd, publisher)
                watching.start_soon(look, crowd)
                async with trio.open_nursery() as nursery:
                    for _ in range(ours):
                        nursery.start_soon(place, crowd, "p2prss")
                    for _ in range(theirs):
                        nursery.start_soon(place, crowd, "reference")
                watching.cancel_scope.cancel()
    print(f"seed {seed}, {minutes} minutes, {ours} places of p2prss and {theirs} of the reference")
    for what, number in sorted(crowd.count.items()):
        print(f"  {what}: {number}")
    for kind, seconds in crowd.seconds.items():
        print(f"  {kind} complete: {spread(seconds)}")
    print(f"  p2prss leave: {spread(crowd.leaving)}")
    print(f"  lookups: {spread(crowd.lookups)}, {statistics.mean(crowd.found or [0]):.1f} peers found each")
    for failure in crowd.failures:
        print(f"FAILED {failure}")
    return int(bool(crowd.failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--ours", type=int, default=30)
    parser.add_argument("--theirs", type=int, default=30)
    parser.add_argument("--stay", type=float, default=90, help="longest stay, in seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--reference-only",
        action="store_true",
        help="a process of the reference takes the publisher's place, for comparison with --ours 0",
    )
    given = parser.parse_args()
    sys.exit(
        trio.run(main, given.minutes, given.ours, given.theirs, given.stay, given.seed, given.reference_only)
    )
