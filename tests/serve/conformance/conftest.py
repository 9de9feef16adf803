"""A server over a real drive, with one show whose files are here, or still at a peer."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import pytest
import trio

from p2prss.feed.document.rss_parts import ITEMS_MARK
from p2prss.serve.app import create_app
from p2prss.serve.server import bind_tcp, serve_http
from p2prss.serve.urls import enclosures, episode_path, feed_path
from tests.fakes.memory_core import MemoryCore
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary
from tests.serve.conftest import Client, Reply
from tests.serve.test_with_a_drive import copy_into_a_drive

AUDIO: Final = random.Random(11).randbytes(1_000_000)
COVER: Final = b"\xff\xd8\xff" + random.Random(12).randbytes(100_000)
TEXTS: Final = (
    ("transcript", "vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n", "text/vtt"),
    ("transcript", "srt", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n", "application/srt"),
    ("chapters", "json", b'{"version":"1.2.0","chapters":[]}', "application/json+chapters"),
)
EPISODES: Final = 3


@dataclass
class Service:
    """A running server, and where its things are; with ``is_remote`` nothing of any file is here."""

    client: Client
    blobs: MemoryCore
    feed: str  # paths
    episode: str
    assets: dict[str, str]  # by extension
    is_remote: bool

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.client.port}"

    def forget(self) -> None:
        """All blocks of files are at the peer again."""
        if self.is_remote:
            self.blobs.missing = set(range(len(self.blobs.blocks)))
            self.blobs.fetched.clear()

    async def request(self, path: str, method: str = "GET", **headers: str) -> Reply:
        self.forget()
        reply = await self.client.request(path, method, **headers)
        if method == "GET" and reply.status in (200, 206) and path == self.episode:
            assert bool(self.blobs.fetched) is self.is_remote
        return reply

    async def send(self, raw: bytes, *, has_body: bool = True) -> Reply:
        self.forget()
        return await self.client.send(raw, has_body=has_body)


CHANNEL: Final = f"""<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>Zwölf Ohren</title>
<link>https://example.org/</link><description>About it</description>
<atom:link rel="self" href="https://example.org/feed.xml"/>
<atom:link rel="hub" href="https://hub.example/"/><atom:link rel="next" href="https://example.org/2"/>
<itunes:new-feed-url>https://example.org/new.xml</itunes:new-feed-url><cloud domain="example.org"/>
<?{ITEMS_MARK}?></channel></rss>"""


def _show() -> MemoryFeed:
    feed = MemoryFeed()
    feed.drive.put("/channel.xml", CHANNEL.encode())
    feed.put_info(channel_assets=[feed.asset("image", "https://example.org/cover.jpg", COVER, "jpg")])
    for number in range(EPISODES):
        audio = AUDIO if number == 0 else AUDIO[number:1000]
        files = [feed.asset("enclosure", f"https://example.org/{number}.mp3", audio, mime_type="audio/mpeg")]
        if number == 0:
            files += [
                feed.asset(role, f"https://example.org/{extension}", data, extension, mime_type=mime_type)
                for role, extension, data, mime_type in TEXTS
            ]
        feed.add(f"GUID/{number}", *files)
    return feed


async def _start(nursery: trio.Nursery, *, is_remote: bool) -> Service:
    show = _show()
    served, blobs = await copy_into_a_drive(show)
    app = create_app(MemoryLibrary([served]))
    ((_, port),) = await nursery.start(partial(serve_http, app, bind_tcp("127.0.0.1", 0)))
    folder = feed_path(served.key)
    oldest = (await served.archive.items())[-1]
    episode = episode_path(served.key, oldest, 1, enclosures(oldest)[0])
    assert episode is not None
    names = [path.rpartition("/")[2] for path in show.drive.files if path.startswith("/media/")]
    assets = {name.rpartition(".")[2]: f"{folder}assets/{name}" for name in names}
    client = Client(port, MemoryLibrary())
    return Service(client, blobs, f"{folder}feed.xml", episode, assets, is_remote)


@pytest.fixture(params=[False, True], ids=["here", "at-a-peer"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """A show all of whose files are here, and then one of which nothing is."""
    async with trio.open_nursery() as nursery:
        yield await _start(nursery, is_remote=request.param)
        nursery.cancel_scope.cancel()
