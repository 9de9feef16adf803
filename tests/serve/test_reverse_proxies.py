"""The recipes for nginx and Caddy, with the real programs in front of a running server."""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
import trio

from p2prss.serve.library import ServeSettings
from p2prss.serve.proxies import parse_network
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary
from tests.serve.conftest import Client, Reply, StartServer

RECIPES: Final = Path(__file__).parent / "recipes"
START_SECONDS: Final = 20.0
AUDIO: Final = random.Random(17).randbytes(3_000_000)
UPSTREAM: Final = "127.0.0.1:7737"  # as the recipes have it
TRUSTED: Final = (parse_network("127.0.0.1"),)

pytestmark = pytest.mark.client


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@asynccontextmanager
async def proxy(recipe: str, upstream: int, folder: Path) -> AsyncIterator[int]:
    """The program of a recipe, in front of a port of this machine; its own port."""
    port = free_port()
    text = (RECIPES / recipe).read_text("utf-8")
    assert UPSTREAM in text
    text = text.replace(UPSTREAM, f"127.0.0.1:{upstream}")
    path = folder / "configuration"
    if recipe.startswith("nginx"):
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        path.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; gzip on; gzip_proxied any; gzip_types text/x-opml; {temporary}\n"
            f"server {{ listen 127.0.0.1:{port};\n{text}\n}} }}\n"
        )
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        command = [str(nginx), "-p", str(folder), "-c", str(path)]
    else:
        site = next(line for line in text.splitlines() if line.endswith("org {"))
        options = "{\n\tadmin off\n\tauto_https off\n}\n"
        path.write_text(options + text.replace(site, f"http://:{port} {{\n\tbind 127.0.0.1"))
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]
    environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environ
        )
    try:
        with trio.fail_after(START_SECONDS):
            while process.poll() is None:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.05)
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        process.kill()


@dataclass
class Public:
    """What an app sees: it asks a proxy for addresses below ``base``."""

    base: str
    client: Client

    async def get(self, url: str, method: str = "GET", **headers: str) -> Reply:
        assert url.startswith(f"{self.base}/"), url
        path = "/" + url.partition("://")[2].partition("/")[2]
        host = self.base.partition("://")[2].partition("/")[0]
        return await self.client.request(path, method, Host=host, **headers)


SETTINGS: Final = {
    "subpath": ("https://example.org/pods", ServeSettings(public_url="https://example.org/pods")),
    "root": (
        "http://pods.example.org",
        ServeSettings(allowed_hosts=frozenset({"pods.example.org"}), trusted_proxies=TRUSTED),
    ),
    "subpath-by-headers": (
        "http://pods.example.org/pods",
        ServeSettings(allowed_hosts=frozenset({"pods.example.org"}), trusted_proxies=TRUSTED),
    ),
}


@pytest.mark.parametrize("how", list(SETTINGS))
@pytest.mark.parametrize("program", ["nginx", "Caddyfile"])
async def test_an_app_behind_a_proxy(
    program: str, how: str, start_server: StartServer, tmp_path: Path
) -> None:
    base, settings = SETTINGS[how]
    feed = MemoryFeed()
    feed.put_info(channel_assets=[feed.asset("image", "https://example.org/c.jpg", b"\xff\xd8\xff", "jpg")])
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", AUDIO, mime_type="audio/mpeg"))
    inner = await start_server(feed, settings=settings)
    recipe = f"{program}-{how.removesuffix('-by-headers')}{'.conf' if program == 'nginx' else ''}"
    async with proxy(recipe, inner.port, tmp_path) as port:
        public = Public(base, Client(port, MemoryLibrary()))
        feed_url = f"{base}/feeds/{feed.key_text}/feed.xml"
        await _check_feed(public, feed_url)
        item = ElementTree.fromstring((await public.get(feed_url)).text).find("channel/item/enclosure")
        assert item is not None
        await _check_episode(public, item.attrib["url"])
        opml = await public.get(f"{base}/opml.xml")
        assert f'xmlUrl="{feed_url}"' in opml.text
        everything = await public.get(f"{base}/everything.xml")
        assert everything.status == 200
        assert item.attrib["url"] in everything.text
        index = await public.get(f"{base}/")
        assert (index.status, 'href="/' in index.text) == (200, False)
        page = await public.get(f"{base}/shows/{feed.key_text}")
        assert (page.status, feed_url in page.text) == (200, True)
        assert 'href="/' not in page.text  # works below any path
        foreign = await public.client.request("/pods/opml.xml", Host="rebound.example")
        assert foreign.status in (404, 421)


async def _check_feed(public: Public, url: str) -> None:
    plain = await public.get(url)
    assert (plain.status, plain.headers["content-type"]) == (200, "application/rss+xml; charset=utf-8")
    assert f'rel="self" href="{url}"' in plain.text
    assert "127.0.0.1" not in plain.text
    head = await public.get(url, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(plain.body))
    for coding in ("gzip", "br"):
        packed = await public.get(url, Accept_Encoding=coding)
        assert packed.headers["content-encoding"] == coding
        assert "Accept-Encoding" in packed.headers["vary"]
        assert packed.text == plain.text
        again = await public.get(url, Accept_Encoding=coding, If_None_Match=packed.headers["etag"])
        assert (again.status, again.body) == (304, b"")
    assert (await public.get(url, If_None_Match='"other"')).status == 200
    for path in ("?page=2", "/x", "/../../x"):
        assert (await public.get(url + path)).status == 404


async def _check_episode(public: Public, url: str) -> None:
    whole = await public.get(url, Accept_Encoding="gzip, br")
    assert (whole.status, whole.body) == (200, AUDIO)
    assert whole.headers["content-length"] == str(len(AUDIO))
    assert whole.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in whole.headers
    assert whole.headers["access-control-allow-origin"] == "*"
    head = await public.get(url, "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(AUDIO)), b"")
    etag = head.headers["etag"]
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-", 1_000_000, len(AUDIO)),
        ("bytes=-5", len(AUDIO) - 5, len(AUDIO)),
    ):
        part = await public.get(url, Range=asked, If_Range=etag)
        assert (part.status, part.body) == (206, AUDIO[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(AUDIO)}"
        assert part.headers["content-type"] == "audio/mpeg"
    behind = await public.get(url, Range=f"bytes={len(AUDIO)}-")
    assert (behind.status, behind.headers["content-range"]) == (416, f"bytes */{len(AUDIO)}")
    assert (await public.get(url, Range="bytes=5-9", If_Range='"other"')).body == AUDIO
    assert (await public.get(url, If_None_Match=etag)).status == 304


def test_each_recipe_is_tested() -> None:
    tested = {f"nginx-{one}.conf" for one in ("root", "subpath")}
    tested |= {f"Caddyfile-{one}" for one in ("root", "subpath")}
    assert {path.name for path in RECIPES.iterdir()} == tested
