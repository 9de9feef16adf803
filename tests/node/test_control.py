"""The control socket: who asks gets the truth, nonsense hurts nobody, killed nodes leave no trouble."""

import json
import socket
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from p2prss.errors import P2prssError
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.node.control import MAX_CLIENTS, MAX_REQUEST, ask_status, list_peers
from p2prss.node.duties import carry_out
from p2prss.node.events import Published, Ready, Synced
from p2prss.node.home_paths import HomePaths
from p2prss.node.orders import FollowOrder, PublishOrder, Wanted
from tests.e2e.program import run
from tests.fakes.running_node import no, node_at

SECONDS: Final = 20.0


async def say(home: Path, data: bytes) -> list[Any]:
    """Send bytes, and read all answers until the node closes."""
    received = b""
    with trio.fail_after(SECONDS):
        async with await trio.open_unix_socket(str(home / "control.sock")) as stream:
            try:
                await stream.send_all(data)
                await stream.send_eof()
                while piece := await stream.receive_some():
                    received += piece
            except trio.BrokenResourceError:
                pass  # it did not want to hear all of it
    return [json.loads(line) for line in received.splitlines()]


async def test_the_status_tells_of_feeds_and_peers(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    feed_file = make_demo_show(tmp_path)
    async with (
        node_at(one, "127.0.0.1:0") as (first, first_told),
        node_at(two) as (second, second_told),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(carry_out, first, PublishOrder(str(feed_file)), no)
        ready: Ready = await first_told.wait(Ready)
        published: Published = await first_told.wait(Published)
        nursery.start_soon(carry_out, second, FollowOrder(ready.link, wanted=Wanted()), no)
        while (synced := await second_told.wait(Synced)).media_files < published.media_files:
            pass

        status, (peer,) = await list_peers(HomePaths(two), ready.key)
        assert status.links == 1
        assert status.links_dropped == {}
        assert status.listening == []
        assert status.lan is None
        assert status.uptime_seconds > 0
        (feed,) = status.feeds
        assert (feed.key, feed.role) == (ready.key, "follow")
        assert 0 < feed.files.blocks <= feed.files.length == peer.has_files.length
        assert peer.has_entries.blocks == peer.has_entries.length == feed.entries.length == synced.version
        assert (peer.address, peer.role) == (ready.listen[0], "dialed")
        assert peer.bytes_received >= published.bytes

        status, (peer,) = await list_peers(HomePaths(one), None)
        assert status.listening == ready.listen
        assert peer.role == "accepted"
        assert peer.bytes_sent >= published.bytes
        assert "no-such-show" in (await run("peers", "no-such-show", home=one, code=2)).error

        (line,) = (await run("peers", home=one)).lines
        assert line["key"] == ready.key
        assert line["bytes_sent"] == peer.bytes_sent
        text = (await run("peers", ready.key, home=one, as_json=False)).stdout
        assert text.split()[:2] == [feed.slug, peer.address]
        text = (await run("peers", ready.key, home=two, as_json=False)).stdout
        assert text.endswith("100 %\n")
        nursery.cancel_scope.cancel()


async def test_only_the_owner_may_ask_and_only_while_a_node_runs(tmp_path: Path) -> None:
    path = tmp_path / "home" / "control.sock"
    async with node_at(tmp_path / "home"):
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await ask_status(HomePaths(tmp_path / "home"))).feeds == []
    assert [entry.name for entry in path.parent.iterdir() if "control" in entry.name] == []
    with pytest.raises(P2prssError, match="no node runs"):
        await ask_status(HomePaths(tmp_path / "home"))


async def test_what_a_killed_node_left_is_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("control.sock", "control.new"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(home / name))
    with pytest.raises(P2prssError, match="no node runs"):
        await ask_status(HomePaths(home))
    async with node_at(home):
        assert (await ask_status(HomePaths(home))).links == 0


async def test_a_home_far_down_has_one_too(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120) / "home"
    async with node_at(home):
        assert (await ask_status(HomePaths(home))).links == 0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"get":1}',
        b'{"get":"keys"}',
        b'{"give":"status"}',
        b"\xff\x00",
        b"[" * 5000,
    ],
)
async def test_what_makes_no_sense_gets_an_error(tmp_path: Path, line: bytes) -> None:
    home = tmp_path / "home"
    async with node_at(home):
        wrong, right = await say(home, line + b'\n{"get":"status","more":1}\n')
    assert set(wrong) == {"error"}
    assert right["feeds"] == []


async def test_a_line_without_an_end_is_cut_off(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with node_at(home):
        assert await say(home, b"x" * (4 * MAX_REQUEST)) == []
        assert await say(home, b"x" * 100) == []
        assert len(await say(home, b'{"get":"status"}\n' * 50)) == 50


async def test_too_many_clients_are_turned_away_and_the_node_lives(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with node_at(home):
        held = [await trio.open_unix_socket(str(home / "control.sock")) for _ in range(MAX_CLIENTS)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(P2prssError, match="does not answer"):
            await ask_status(HomePaths(home))
        for stream in held:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await ask_status(HomePaths(home))).links == 0


async def test_without_a_node_peers_says_so(tmp_path: Path) -> None:
    finished = await run("peers", home=tmp_path / "nowhere", code=1, as_json=False)
    assert "no node runs" in finished.error
    finished = await run("peers", home=tmp_path / "nowhere", code=1)
    assert finished.event("error")["code"] == 1
