"""The same over a real drive, whose blocks may have to come from a peer first."""

import random
from dataclasses import dataclass
from functools import partial
from xml.etree import ElementTree

import trio

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.drive.drive import Drive
from p2prss.feed.archive.archive import FeedArchive
from p2prss.log.manifest import Manifest, core_key
from p2prss.serve.app import create_app
from p2prss.serve.server import bind_tcp, serve_http
from tests.fakes.memory_core import MemoryCore
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary
from tests.serve.conftest import Client

DATA = random.Random(5).randbytes(1_000_000)


@dataclass
class DriveFeed:
    """Satisfies ``serve.library.ServedFeed`` over a real drive."""

    key: CoreKey
    drive: Drive
    archive: FeedArchive
    slug: str = "a-show"
    title: str = "A show"
    peers: int = 1


async def copy_into_a_drive(feed: MemoryFeed) -> tuple[DriveFeed, MemoryCore]:
    """The files of a feed in a real drive; returns it and the core of its bytes."""
    blobs = MemoryCore(key=b"b" * 32)
    manifest = Manifest.single(KeyPair.from_seed(bytes(32)).public_key)

    async def open_core(*_: object) -> MemoryCore:
        return blobs

    drive = Drive(MemoryCore(key=core_key(manifest), manifest=manifest), open_core)
    async with drive.batch() as batch:
        for path, data in feed.drive.files.items():
            await batch.put(path, data, metadata=feed.drive.metadata[path])
    return DriveFeed(drive.key, drive, FeedArchive(drive)), blobs


async def test_from_the_feed_to_the_bytes_of_its_episode() -> None:
    feed = MemoryFeed()
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", DATA, mime_type="audio/mpeg"))
    served, blobs = await copy_into_a_drive(feed)
    async with trio.open_nursery() as nursery:
        app = create_app(MemoryLibrary([served]))
        ((_, port),) = await nursery.start(partial(serve_http, app, bind_tcp("127.0.0.1", 0)))
        client = Client(port, MemoryLibrary())
        rss = (await client.request("/feeds/a-show/feed.xml")).text
        (enclosure,) = ElementTree.fromstring(rss).iter("enclosure")
        path = "/feeds/" + enclosure.attrib["url"].partition("/feeds/")[2]
        assert (await client.request(path)).body == DATA
        for start, stop in ((0, 1), (65_535, 65_537), (999_999, 1_000_000), (123_456, 987_654)):
            reply = await client.request(path, Range=f"bytes={start}-{stop - 1}")
            assert (reply.status, reply.body) == (206, DATA[start:stop])

        last = len(blobs.blocks) - 1
        blobs.missing = set(range(last - 3, last + 1))
        blobs.remote = False
        assert (await client.request(path, Range="bytes=-10")).status == 503
        broken = await client.request(path)
        assert DATA.startswith(broken.body)
        assert not broken.is_whole
        blobs.remote = True
        assert (await client.request(path)).body == DATA
        nursery.cancel_scope.cancel()
