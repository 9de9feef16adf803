"""Phones on the local network: an address that cannot be guessed, a name that stays, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from p2prss.net.lan.host_name import host_label
from tests.e2e.program import run, running
from tests.e2e.show import Show, enclosures
from tests.fakes.namespaces import Cable, cable_or_skip

pytestmark = pytest.mark.netns

NODE, PHONE = 0, 1
UP = ("up", "--no-dht", "--http", "127.0.0.1:0", "--lan-http")
LOOK_UP = """
import sys, zeroconf
with zeroconf.Zeroconf(interfaces=["10.77.0.2"]) as network:
    for _ in range(20):
        resolver = zeroconf.AddressResolverIPv4(sys.argv[1] + ".")
        if resolver.request(network, 1000):
            print(*resolver.parsed_addresses())
            break
"""


async def on_phone(hosts: Cable, *command: str) -> bytes:
    done = await trio.run_process(
        [*hosts.prefix(PHONE), *command], capture_stdout=True, stderr=subprocess.DEVNULL, check=False
    )
    return bytes(done.stdout)


async def ask(hosts: Cable, url: str, *options: str) -> tuple[int, bytes]:
    """The status and body that a phone gets; 0 where nobody answers."""
    said = await on_phone(hosts, "curl", "-q", "-s", "-m", "20", "-w", "\n%{http_code}", *options, url)
    body, _, status = said.rpartition(b"\n")
    return int(status), body


async def test_a_phone_gets_one_feed_and_no_more(local_show: Show, tmp_path: Path) -> None:
    home = tmp_path / "a"
    key = (await run("publish", local_show.feed, "--once", "--no-http", home=home)).event("published")["key"]
    name = f"{host_label()}.local"
    with cable_or_skip(2, ipv6=False) as hosts:
        async with running(*UP, home=home, prefix=hosts.prefix(NODE)) as program:
            ready = await program.event("ready")
            url = ready["lan_plain_url"]
            root, _, token = url.partition("/feeds/")[0].partition("/lan/")
            assert root == "http://10.77.0.1:7739"
            assert ready["lan_url"] == url.replace("10.77.0.1", name)

            status, body = await ask(hosts, url)
            assert status == 200
            episodes = enclosures(body)
            assert len(episodes) == len(local_show.episodes)
            assert all(one.url.startswith(f"{root}/lan/{token}/feeds/{key}/") for one in episodes)
            status, body = await ask(hosts, episodes[0].url, "-r", "0-99")
            assert (status, len(body)) == (206, 100)
            by_name = ("--resolve", f"{name}:7739:10.77.0.1")
            status, body = await ask(hosts, ready["lan_url"], *by_name)
            assert (status, enclosures(body)[0].url.startswith(f"http://{name}:7739/lan/")) == (200, True)
            assert (await on_phone(hosts, sys.executable, "-c", LOOK_UP, name)).split() == [b"10.77.0.1"]

            # Neither page nor lists, no feed by its key alone, no change, and no name of somebody else's.
            paths = ("/", "/opml.xml", "/everything.xml", "/api/v1/feeds", f"/feeds/{key}/feed.xml")
            for path in (*paths, *(f"/lan/{token}{path}" for path in paths[:-1]), "/lan/x/feeds/"):
                assert (await ask(hosts, root + path))[0] == 404, path
            assert (await ask(hosts, url, "-X", "POST"))[0] == 405
            assert (await ask(hosts, url, "-H", "Host: rebound.example"))[0] == 421
            # The other server is for this machine alone, still.
            assert (await ask(hosts, ready["http"].replace("127.0.0.1", "10.77.0.1")))[0] == 0
        async with running(*UP, home=home, prefix=hosts.prefix(NODE)) as program:
            assert (await program.event("ready"))["lan_plain_url"] == url  # apps keep the address


async def test_a_port_that_is_taken_is_said(local_show: Show, tmp_path: Path) -> None:
    home = tmp_path / "a"
    await run("publish", local_show.feed, "--once", "--no-http", home=home)
    (listener,) = await trio.open_tcp_listeners(0, host="0.0.0.0")
    async with listener:
        port = str(listener.socket.getsockname()[1])
        options = ("--no-http", "--lan-http", "--lan-http-port", port)
        refused = await run("publish", local_show.feed, *options, home=home, code=3)
        assert "--lan-http-port" in refused.stderr
