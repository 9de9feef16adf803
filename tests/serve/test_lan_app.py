"""What the server for phones answers, over sockets."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
import trio

from p2prss.serve.lan_access import SECRET_BYTES, LanAccess
from p2prss.serve.lan_app import create_lan_app
from p2prss.serve.library import ServeSettings
from p2prss.serve.server import bind_tcp, serve_http
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary
from tests.serve.conftest import Client

ACCESS: Final = LanAccess(bytes(SECRET_BYTES))
NAME: Final = "p2prss-desk.local"


@pytest.fixture
async def phone() -> AsyncIterator[tuple[Client, str]]:
    """Who asks the server, and the path of a feed there."""
    feed = MemoryFeed()
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", b"ID3", mime_type="audio/mpeg"))
    library = MemoryLibrary([feed])
    app = create_lan_app(library, ServeSettings(), ACCESS, {NAME})
    async with trio.open_nursery() as nursery:
        ((_, port),) = await nursery.start(serve_http, app, bind_tcp("127.0.0.1", 0))
        yield Client(port, library), ACCESS.feed_path(library.feeds()[0].key)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "host",
    [
        NAME,
        NAME.upper(),
        f"{NAME}.",
        f"{NAME}:7739",
        "192.168.1.5:7739",
        "127.0.0.1:",
        "[fe80::1]",
        "localhost:1",
    ],
)
async def test_names_and_addresses_of_this_network_lead_here(phone: tuple[Client, str], host: str) -> None:
    client, path = phone
    reply = await client.request(path, Host=host)
    assert reply.status == 200
    assert f'url="http://{host.lower().rstrip(":")}{path.removesuffix("feed.xml")}' in reply.text


@pytest.mark.parametrize("host", ["rebound.example", "8.8.8.8", "localhost.example", ":", f"{NAME}.example"])
async def test_other_names_do_not(phone: tuple[Client, str], host: str) -> None:
    client, path = phone
    assert (await client.request(path, Host=host)).status == 421


async def test_paths_are_taken_as_they_were_meant(phone: tuple[Client, str]) -> None:
    client, path = phone
    for asked in (f"/{path}", path.replace("/", "//"), f"{path}/", f"{path}?_from=app", f"{path}#top"):
        assert (await client.request(asked)).status == 200
    for wrong in (
        "/opml.xml",
        "//everything.xml",
        path.replace("/lan/", "/lan/a"),
        path.partition("/feeds")[2],
    ):
        assert (await client.request(wrong)).status == 404
