"""Ending the program at any moment: in time, with the right code, and the next run carries on."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import trio

from p2prss.errors import P2prssError
from p2prss.node.control import ask_status
from p2prss.node.home_paths import HomePaths
from tests.e2e.conftest import Serve
from tests.e2e.program import EVENT_SECONDS, Program, Start, run
from tests.e2e.show import Show, downloaded_twice, hashes_of, served
from tests.tools.podcast.spec import Spec

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


@contextmanager
def frozen(program: Program) -> Iterator[None]:
    """A program that is alive and does nothing: a peer that hangs."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(program.pid, signal.SIGCONT)


@SIGNALS
async def test_a_publisher_is_stopped_in_the_middle_of_a_download(
    number: signal.Signals, serve: Serve, start: Start, tmp_path: Path
) -> None:
    show = Show.make(tmp_path / "show", Spec(episodes=4, megabytes=0.5, cover_side=32))
    origin = serve(show, "/media/ep0002.mp3 stall=50% hold=30", "/media/ep0001.mp3 rate=20000")
    home = tmp_path / "home"
    publisher = await start(
        "publish", origin.feed_url, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", home=home
    )
    await publisher.event("progress", where=lambda line: line["done"] >= 1_000_000)
    await trio.sleep(0.2)  # into the two that are slow
    await publisher.stop(number)
    kept = [line["local"] for line in (await run("show", "the-copper-compass", home=home)).lines]
    assert kept == [True, True, False, False]
    assert [path.name for path in (home / "incoming").glob("*")] == []

    origin.set_rules([])
    told = (await run("publish", origin.feed_url, "--once", home=home)).event("published")
    assert (told["episodes"], told["failed"]) == (4, 0)
    assert downloaded_twice([hit for hit in origin.hits if hit.path != "/feed.xml"]) == {}
    await run("export", told["key"], tmp_path / "plain", home=home)
    assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == show.hashes


@SIGNALS
async def test_a_follower_is_stopped_while_a_peer_hangs_and_a_player_pauses(
    number: signal.Signals, long_show: Show, start: Start, tmp_path: Path
) -> None:
    options = ("--listen", "127.0.0.1:0", "--no-http", "--latest", "1")
    publisher = await start("publish", long_show.feed, *options, home=tmp_path / "a")
    await publisher.event("published")
    link = publisher.lines[0]["link"]
    home = tmp_path / "b"
    follower = await start("follow", link, "--on-demand", "--http", "127.0.0.1:0", home=home)
    await follower.event("synced")
    newest = (await served((await follower.event("ready"))["feed_url"]))[0]
    place = urlsplit(newest.url)
    with socket.create_connection((place.hostname or "", place.port or 0)) as player:
        player.sendall(f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        assert player.recv(12) == b"HTTP/1.1 200"
        with frozen(publisher):
            await follower.stop(number)
    await publisher.stop(number)
    assert (await run("verify", home=home)).lines[-1]["ok"]


async def until_up(home: Path) -> None:
    """Wait until the node of a home answers."""
    with trio.fail_after(EVENT_SECONDS):
        while True:
            try:
                await ask_status(HomePaths(home))
            except P2prssError:
                await trio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize(
    "command", [["follow", "--all", "--once"], ["seed", "--once"], ["follow"], ["seed"]], ids=" ".join
)
async def test_who_waits_for_peers_can_be_stopped(command: list[str], start: Start, tmp_path: Path) -> None:
    key = "yuhj5d6dzxbqyiibpe1rcpc7iixgysinwk5kni1situchzhtyr4y"
    http = ["--http", "127.0.0.1:0"] if command[0] == "follow" else []
    program = await start(
        command[0], key, *command[1:], *http, "--peer", "127.0.0.1:9", home=tmp_path / "home"
    )
    if command[0] == "seed":
        await program.event("ready")
    else:
        await until_up(tmp_path / "home")  # nothing is told before somebody answers
    await program.stop(signal.SIGINT)


async def test_a_signal_that_comes_very_early(tmp_path: Path, start: Start) -> None:
    """Before anything was set up, SIGTERM just ends the process and Ctrl-C is told by its code."""
    for delay in (0.05, 0.15, 0.3):
        program = await start(
            "follow", "yuhj5d6dzxbqyiibpe1rcpc7iixgysinwk5kni1situchzhtyr4y", home=tmp_path / "home"
        )
        await trio.sleep(delay)
        program.process.send_signal(signal.SIGTERM)
        finished = await program.wait(seconds=10)
        assert finished.code in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert finished.stderr == ""


async def test_killed_in_the_middle_of_a_transfer(long_show: Show, start: Start, tmp_path: Path) -> None:
    """A power cut loses nothing that was there."""
    publisher = await start(
        "publish", long_show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    told = await publisher.event("published")
    link, home = publisher.lines[0]["link"], tmp_path / "b"
    before = 0
    for _ in range(2):
        follower = await start("follow", link, "--all", "--no-http", home=home)
        await follower.event("progress")
        await follower.kill()
        (status,) = (await run("status", home=home)).lines
        assert status["local_bytes"] >= before
        assert (await run("verify", home=home)).lines[-1]["ok"]
        before = status["local_bytes"]
    synced = (await run("follow", link, "--all", "--once", "--no-http", home=home)).event("synced")
    assert synced["bytes"] == told["bytes"]


async def test_the_service_of_the_readme_runs_and_ends_as_systemd_is_told(
    start: Start, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8").partition("```ini")[2]
    unit = dict(line.split("=", 1) for line in text.partition("```")[0].splitlines() if "=" in line)
    program, *words = unit["ExecStart"].replace(":7738", ":0").split()
    assert program.endswith("/p2prss")
    node = await start(*words, "--http", "127.0.0.1:0", home=tmp_path / "home")
    await until_up(tmp_path / "home")
    stopped = await node.stop()
    assert str(stopped.code) in unit["SuccessExitStatus"].split()
    in_the_way = await run("up", "--listen", "nonsense", home=tmp_path / "home", code=2)
    assert str(in_the_way.code) in unit["RestartPreventExitStatus"].split()


INTERRUPTED_LOADING: Final = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.argv = ["/usr/bin/p2prss", "list"]
sys.meta_path.insert(0, CtrlC())
from p2prss.cli.app import main
"""


async def test_ctrl_c_while_the_program_loads_is_silent() -> None:
    done = await trio.run_process(
        [sys.executable, "-c", INTERRUPTED_LOADING], capture_stdout=True, capture_stderr=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
