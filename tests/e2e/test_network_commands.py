"""The commands that look after the network: ``node``, in a network of its own, with the reference as guest,
and ``doctor``.

All of it on loopback: no node here knows a public one.
"""

import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest
import trio

from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.client import open_dht
from p2prss.net.dht.messages import REPLY, REQUEST
from p2prss.units import MIB
from tests.e2e.program import PROGRAM, STOP_SECONDS, Finished, Line, environment, run, running
from tests.e2e.show import Show
from tests.e2e.small_disk import SmallDisk, small_disk
from tests.net.dht.js_dht import JsDht, open_js_dht

PATIENCE: Final = 60  # seconds, for what takes five
KEY: Final = "yuhj5d6dzxbqyiibpe1rcpc7iixgysinwk5kni1situchzhtyr4y"
TOPIC: Final = "17" * 32
SEEDS: Final = [bytes([number]) * 32 for number in (1, 2)]
KEY_PAIRS: Final = [KeyPair.from_seed(seed) for seed in SEEDS]


class NodeProcess:
    """A running ``p2prss --json node``. Its events are its own, so ``Program`` does not read them."""

    def __init__(self, process: trio.Process, lines: list[Line]) -> None:
        self.process = process
        self.lines = lines
        self.news = trio.Event()

    async def event(
        self, name: str, *, where: Callable[[Line], bool] = lambda _: True, **members: object
    ) -> Line:
        """The newest event of that name, once there is one with these members."""
        while True:
            for line in reversed(self.lines):
                if line["event"] == name and members.items() <= line.items() and where(line):
                    return line
            await self.news.wait()

    @property
    def port(self) -> int:
        return int(self.lines[0]["bootstrap"].rpartition(":")[2])

    async def read(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *complete, rest = (rest + data).split(b"\n")
            self.lines += map(json.loads, complete)
            self.news.set()
            self.news = trio.Event()
        assert not rest


@asynccontextmanager
async def dht_node(*arguments: str, stop: signal.Signals = signal.SIGTERM) -> AsyncIterator[NodeProcess]:
    """A node on a free port of loopback; it must end in time and in order, unless the test has killed it."""
    words = [str(PROGRAM), "--json", "node", "--listen", "127.0.0.1:0", "--statistics", "1", *arguments]
    process = await trio.lowlevel.open_process(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment()
    )
    node = NodeProcess(process, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.read)
        try:
            await node.event("listening")
            yield node
            if process.returncode is None:
                process.send_signal(stop)
                with trio.fail_after(STOP_SECONDS):
                    assert await process.wait() == 128 + stop
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + 1.0  # for what is left in the pipe


async def guest(js: JsDht, port: int) -> int:
    """A node of the reference that keeps nothing for others, so that all is kept by ours."""
    return int(await js.call("node", bootstrap=port, options={"ephemeral": True}))


async def test_a_network_of_its_own_begins_with_one_node() -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node(stop=signal.SIGINT) as node:
            told = node.lines[0]
            assert told["bootstrap"] == told["listen"] == f"127.0.0.1:{node.port}"
            assert (told["joined"], told["own_network"], told["reachable"]) == ([], True, True)
            statistics = await node.event("statistics")
            assert (statistics["persistent"], statistics["nodes"]) == (True, 0)
            assert statistics["requests_sent"] == 0  # it asks nobody for anything
        assert node.lines[-1]["event"] == "statistics"  # its last words


@pytest.mark.interop
async def test_the_reference_starts_from_our_node_announces_and_looks_up() -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node() as node, open_js_dht() as js:
            one, other = await guest(js, node.port), await guest(js, node.port)
            assert await js.call("announce", node=one, topic=TOPIC, seed=SEEDS[0].hex()) == 1
            assert list(await js.call("lookup", node=other, topic=TOPIC)) == [KEY_PAIRS[0].public_key.hex()]
            target = await js.call("immutablePut", node=one, value=b"on the ship".hex())
            assert await js.call("immutableGet", node=other, target=target) == b"on the ship".hex()
            await node.event("statistics", where=lambda line: line["stored"]["records"] == 1)


@pytest.mark.interop
async def test_of_two_nodes_either_may_die() -> None:
    """What is announced is kept by both; newcomers start from the one that is left."""
    with trio.fail_after(PATIENCE):
        async with dht_node() as first, dht_node("--bootstrap", first.lines[0]["bootstrap"]) as second:
            told = await second.event("listening", reachable=True)  # the first has proved it
            assert told["bootstrap"] == told["listen"]
            assert (told["joined"], told["own_network"]) == ([first.lines[0]["bootstrap"]], False)
            await second.event("statistics", persistent=True, nodes=1)
            await first.event("statistics", nodes=1)
            async with open_js_dht() as js:
                one = await guest(js, first.port)
                assert await js.call("announce", node=one, topic=TOPIC, seed=SEEDS[0].hex()) == 2
                first.process.kill()
                await first.process.wait()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_newcomer_finds_its_way, second)
                    found = await js.call("lookup", node=one, topic=TOPIC)
                assert KEY_PAIRS[0].public_key.hex() in found


async def _newcomer_finds_its_way(node: NodeProcess) -> None:
    async with open_dht(host="127.0.0.1", port=0, bootstraps=[node.lines[0]["bootstrap"]]) as newcomer:
        await newcomer.wait_bootstrapped()
        topic = bytes.fromhex(TOPIC)
        assert KEY_PAIRS[0].public_key in {peer.public_key for peer in (await newcomer.lookup(topic)).peers}
        assert (await newcomer.announce(topic, KEY_PAIRS[1])).stored == 1


async def test_a_classroom_follows_by_key_with_nothing_but_that_node(
    local_show: Show, tmp_path: Path
) -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node() as node:
            words = ("--bootstrap", node.lines[0]["bootstrap"], "--no-http")
            async with running("publish", local_show.feed, *words, home=tmp_path / "teacher") as teacher:
                told = await teacher.event("published")
                await node.event("statistics", where=lambda line: line["stored"]["records"] == 1)
                follow = ("follow", told["key"], *words, "--all", "--once")
                got = (await run(*follow, home=tmp_path / "pupil")).event("synced")
    assert (got["version"], got["bytes"]) == (told["version"], told["bytes"])


async def test_nonsense_from_strangers_is_counted_and_nothing_else() -> None:
    chance = Random(1)
    with trio.fail_after(PATIENCE), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
        async with dht_node() as node:
            for size in range(1, 300):
                for kind in (b"", bytes([REQUEST]), bytes([REPLY])):
                    await stranger.sendto(kind + chance.randbytes(size), ("127.0.0.1", node.port))
            await node.event("statistics", where=lambda line: line["undecodable"] > 10)
            async with open_dht(host="127.0.0.1", port=0, bootstraps=[node.lines[0]["bootstrap"]]) as guest:
                await guest.wait_bootstrapped()
                assert (await guest.announce(bytes(32), KEY_PAIRS[0])).stored == 1


async def test_the_address_others_use_may_be_given() -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node("--public", "192.168.7.7:4000") as node:
            assert node.lines[0]["bootstrap"] == "192.168.7.7:4000"
            assert node.lines[0]["reachable"]


async def test_a_person_gets_the_option_for_the_others() -> None:
    process = await trio.lowlevel.open_process(
        [str(PROGRAM), "node", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    with trio.fail_after(PATIENCE):
        line = bytes(await process.stdout.receive_some()).decode()
        process.terminate()
        assert await process.wait() == 143
        await process.stdout.aclose()
    assert line.startswith("--bootstrap 127.0.0.1:")
    assert line.endswith("\n")


async def test_options_of_a_node_that_make_no_sense(tmp_path: Path) -> None:
    for words, cause in (
        (["--listen", "here"], "has no port"),
        (["--bootstrap", "node.example:0"], "needs a port"),
        (["--public", "0.0.0.0:7"], "no address that others can send to"),
        (["--public", "1.2.3.4:0"], "no address that others can send to"),
    ):
        assert cause in (await run("node", *words, home=tmp_path / "home", code=2)).error
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as taken:
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = await run("node", "--listen", f"127.0.0.1:{port}", home=tmp_path / "home", code=3)
        assert "in use" in done.error
    assert not (tmp_path / "home").exists()


# ---- doctor

HERE: Final = ("doctor", "--no-dht", "--no-lan", "--no-http")


def results(done: Finished) -> dict[str, str]:
    return {line["name"]: line["result"] for line in done.lines if "name" in line}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4 * MIB) as mounted:
        yield mounted


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_node_behind_a_firewall_has_the_udp_port_it_was_given(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node() as first:
            port = str(free_udp_port())
            words = ("follow", KEY, "--no-http", "--udp-port", port, "--bootstrap", f"127.0.0.1:{first.port}")
            async with running(*words, home=tmp_path / "home") as program:
                assert (await program.event("ready"))["udp_port"] == int(port)
                done = await run(*words, home=tmp_path / "other", code=3)
                assert f"port {port}" in done.error
                assert "another --udp-port" in done.error
                done = await run("node", "--udp-port", port, code=3)
                assert f":{port}" in done.error
            async with running(*words[:3], home=tmp_path / "home") as program:
                assert (await program.event("ready"))["udp_port"] is None  # there is no DHT


async def test_udp_ports_that_make_no_sense(tmp_path: Path) -> None:
    for words in (
        ["follow", KEY, "--no-dht", "--udp-port", "49737"],
        ["follow", KEY, "--udp-port", "65536"],
        ["node", "--listen", "0.0.0.0:49737", "--udp-port", "49737"],
    ):
        await run(*words, home=tmp_path / "home", code=2)
    assert not (tmp_path / "home").exists()


async def test_the_doctor_in_a_network_of_one_node(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with dht_node() as node:
            words = (
                "doctor",
                "--bootstrap",
                node.lines[0]["bootstrap"],
                "--udp-port",
                "0",
                "--no-lan",
                "--no-http",
            )
            done = await run(*words, home=tmp_path / "home")
            person = await run(*words, home=tmp_path / "home", as_json=False)
    assert all(
        line.keys() == {"name", "result", "cause", "next_step", "code", "details"} for line in done.lines
    )
    found = results(done)
    assert found.keys() == {"home", "disk", "clock", "node", "nat", "port", "dht"}
    assert {name: found[name] for name in ("home", "node", "nat", "port", "dht")} == dict.fromkeys(
        ["home", "node", "nat", "port", "dht"], "ok"
    )
    assert [line.split()[:2] for line in person.stdout.splitlines() if line[0] != " "] == [
        [line["result"], line["name"]] for line in done.lines
    ]
    assert not (tmp_path / "home").exists()


async def test_the_doctor_knows_the_node_that_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running("follow", KEY, "--http", "127.0.0.1:0", home=home) as program:
        ready = await program.event("ready")
        done = await run("doctor", "--no-dht", "--no-lan", home=home)
        (node,) = [line for line in done.lines if line["name"] == "node"]
        assert (node["details"]["running"], node["details"]["pid"]) == (True, program.pid)
        (http,) = [line for line in done.lines if line["name"] == "http"]
        assert http["details"]["url"] == ready["http"]
    done = await run("doctor", "--no-dht", "--no-lan", home=home)
    (node,) = [line for line in done.lines if line["name"] == "node"]
    assert not node["details"]["running"]


async def test_the_doctor_ends_with_the_code_of_the_first_problem(tmp_path: Path, disk: SmallDisk) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = await run(*HERE, home=tmp_path / "file", code=5)
    assert "is no folder" in done.error
    assert done.event("error")["code"] == 5
    for name in ("keys", "cores"):
        (tmp_path / "home" / name).mkdir(parents=True)
    (tmp_path / "home/store.sqlite").write_bytes(b"no database")
    done = await run(*HERE, home=tmp_path / "home", code=4)
    assert done.error.startswith("database: ")
    assert done.error.endswith("(and 1 more)")  # its key is missing, too
    done = await run(*HERE, home=disk.path / "home", prefix=disk.prefix, code=5)
    assert done.error.startswith("disk: ")
    disk.remount("ro")
    done = await run(*HERE, home=disk.path / "home", prefix=disk.prefix, code=1)
    assert results(done)["home"] == "problem"
    assert not (disk.inside / "home").exists()


async def test_options_of_the_doctor_that_make_no_sense(tmp_path: Path) -> None:
    for words in (["--bootstrap", "here"], ["--http", "here"], ["--port", "65536"]):
        await run("doctor", "--no-dht", *words, home=tmp_path / "home", code=2)
    assert not (tmp_path / "home").exists()
