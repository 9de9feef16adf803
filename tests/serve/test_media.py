"""Bytes of episodes over real sockets: ranges, validators, and what happens when peers fail."""

import random

import pytest
import trio

from p2prss.errors import (
    BlockUnavailableError,
    CorruptLogError,
    DiskFullError,
    NoPeersError,
    P2prssError,
)
from p2prss.serve import app, media
from tests.fakes.memory_drive import MemoryFeed, Trouble
from tests.serve.conftest import Client, StartServer, read_reply

DATA = random.Random(7).randbytes(300_000)
URL = "https://example.org/1.mp3"


class Episode:
    """A server with one episode, and its path."""

    def __init__(self, feed: MemoryFeed, client: Client, path: str) -> None:
        self.feed, self.client, self.path = feed, client, path
        self.stored = next(one for one in feed.drive.files if one.startswith("/media/"))
        self.etag = f'"{self.stored[10:74]}"'

    def fails(self, **how: object) -> None:
        self.feed.drive.troubles[self.stored] = Trouble(**how)


@pytest.fixture
async def episode(start_server: StartServer) -> Episode:
    feed = MemoryFeed()
    path = feed.add("guid-1", feed.asset("enclosure", URL, DATA, mime_type="audio/mpeg"))
    client = await start_server(feed)
    item_id = path[-20:-4]
    return Episode(feed, client, f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3")


async def test_the_whole_file_with_its_headers(episode: Episode) -> None:
    reply = await episode.client.request(episode.path)
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.headers["content-length"] == str(len(DATA))
    assert reply.headers["content-type"] == "audio/mpeg"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"] == episode.etag
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "last-modified" not in reply.headers
    assert "content-encoding" not in reply.headers


async def test_media_is_never_compressed(episode: Episode) -> None:
    reply = await episode.client.request(episode.path, Accept_Encoding="gzip")
    assert reply.body == DATA
    assert "content-encoding" not in reply.headers


async def test_head_says_what_get_says_without_reading_a_byte(episode: Episode) -> None:
    head = await episode.client.request(episode.path, "HEAD")
    assert episode.feed.drive.read_bytes == 0
    get = await episode.client.request(episode.path)
    del head.headers["date"], get.headers["date"]
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


async def test_head_ignores_a_range(episode: Episode) -> None:
    head = await episode.client.request(episode.path, "HEAD", Range="bytes=0-9")
    assert (head.status, head.headers["content-length"]) == (200, str(len(DATA)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-", 0, 300_000),
        ("bytes=0-0", 0, 1),
        ("bytes=65535-65536", 65535, 65537),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-70000", 230_000, 300_000),
        ("bytes=1000-999999999", 1000, 300_000),
    ],
)
async def test_a_range_is_answered_exactly(episode: Episode, asked: str, start: int, stop: int) -> None:
    reply = await episode.client.request(episode.path, Range=asked)
    assert (reply.status, reply.body) == (206, DATA[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert reply.headers["content-length"] == str(stop - start)
    assert reply.headers["etag"] == episode.etag


async def test_only_the_blocks_asked_for_are_read(episode: Episode) -> None:
    await episode.client.request(episode.path, Range="bytes=200000-200009")
    assert episode.feed.drive.read_bytes == 10


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=-0"])
async def test_a_range_behind_the_end_is_416_with_the_length(episode: Episode, asked: str) -> None:
    reply = await episode.client.request(episode.path, Range=asked)
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */300000")
    assert reply.is_whole


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-1", "bytes=x", "blocks=0-1"])
async def test_other_ranges_give_the_whole(episode: Episode, asked: str) -> None:
    reply = await episode.client.request(episode.path, Range=asked)
    assert (reply.status, reply.body) == (200, DATA)


async def test_if_range_resumes_only_the_same_bytes(episode: Episode) -> None:
    ask = episode.client.request
    assert (await ask(episode.path, Range="bytes=5-", If_Range=episode.etag)).status == 206
    assert (await ask(episode.path, Range="bytes=5-", If_Range='"other"')).body == DATA
    assert (await ask(episode.path, Range="bytes=5-", If_Range="W/" + episode.etag)).status == 200


async def test_a_known_etag_is_304_without_a_body(episode: Episode) -> None:
    reply = await episode.client.request(episode.path, If_None_Match=episode.etag, Range="bytes=0-1")
    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", episode.etag)
    assert episode.feed.drive.read_bytes == 0


async def test_an_empty_file(start_server: StartServer) -> None:
    feed = MemoryFeed()
    item_id = feed.add("g", feed.asset("enclosure", URL, b""))[-20:-4]
    client = await start_server(feed)
    path = f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3"
    assert (await client.request(path)).headers["content-length"] == "0"
    assert (await client.request(path, Range="bytes=0-")).status == 416


async def test_tiny_and_huge_blocks_are_served_all_the_same(episode: Episode) -> None:
    for size in (100, 1 << 20):
        episode.feed.drive.block_bytes = size
        assert (await episode.client.request(episode.path, Range="bytes=3-")).body == DATA[3:]


# Fetching while playing


@pytest.mark.parametrize(
    "error", [NoPeersError("no peers"), BlockUnavailableError("nobody"), DiskFullError("full")]
)
async def test_503_before_any_promise_when_nobody_has_the_first_block(
    episode: Episode, error: P2prssError
) -> None:
    episode.fails(error=error)
    reply = await episode.client.request(episode.path)
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert "etag" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    assert reply.is_whole


async def test_503_when_the_first_block_does_not_come_in_time(
    episode: Episode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ANSWER_SECONDS", 0.05)
    episode.fails(wait=True)
    reply = await episode.client.request(episode.path)
    assert (reply.status, "retry-after" in reply.headers) == (503, True)
    assert episode.feed.drive.open_reads == 0


async def test_a_file_that_fails_its_hashes_is_500(episode: Episode) -> None:
    episode.fails(error=CorruptLogError("secret: /x/y"))
    reply = await episode.client.request(episode.path)
    assert reply.status == 500
    assert b"secret" not in reply.body


@pytest.mark.parametrize(
    "how", [{"error": NoPeersError("gone")}, {"error": CorruptLogError("bad")}, {"short": True}]
)
async def test_a_failure_later_breaks_the_connection_off(
    episode: Episode,
    how: dict[str, object],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(media, "NEXT_CHUNK_SECONDS", 0.05)
    episode.fails(at=100_000, **how)
    reply = await episode.client.request(episode.path)
    assert reply.status == 200
    assert 0 < len(reply.body) < len(DATA)
    assert DATA.startswith(reply.body)
    assert not reply.is_whole
    assert [one.levelname for one in caplog.records] == ["WARNING"]  # one line, no traceback


async def test_a_stall_later_breaks_the_connection_off(
    episode: Episode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "NEXT_CHUNK_SECONDS", 0.05)
    episode.fails(at=100_000, wait=True)
    reply = await episode.client.request(episode.path)
    assert not reply.is_whole
    assert episode.feed.drive.open_reads == 0


async def test_a_client_that_hangs_up_ends_the_fetch(
    episode: Episode, caplog: pytest.LogCaptureFixture
) -> None:
    episode.fails(at=100_000, wait=True)
    stream = await episode.client.connect()
    await stream.send_all(f"GET {episode.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await stream.receive_some(1000)
    assert episode.feed.drive.open_reads == 1
    await stream.aclose()
    with trio.fail_after(5):
        await episode.feed.drive.wait_open_reads(0)
    assert not caplog.records


async def test_a_client_that_hangs_up_while_it_waits_for_the_first_byte(episode: Episode) -> None:
    episode.fails(wait=True)
    stream = await episode.client.connect()
    await stream.send_all(f"GET {episode.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    with trio.fail_after(5):
        await episode.feed.drive.wait_open_reads(1)
        await stream.aclose()
        await episode.feed.drive.wait_open_reads(0)


async def test_a_client_that_does_not_read_holds_back_the_fetch(start_server: StartServer) -> None:
    feed = MemoryFeed()
    item_id = feed.add("g", feed.asset("enclosure", URL, bytes(64 << 20)))[-20:-4]
    client = await start_server(feed)
    path = f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3"
    async with await client.connect() as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        read = -1
        while read != feed.drive.read_bytes:
            read = feed.drive.read_bytes
            await trio.sleep(0.1)
    assert 0 < read < 32 << 20


async def test_several_requests_on_one_connection(episode: Episode) -> None:
    async with await episode.client.connect() as stream:
        for start in range(3):
            await stream.send_all(
                f"GET {episode.path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={start}-\r\n\r\n".encode()
            )
            assert (await read_reply(stream)).body == DATA[start:]


# URLs


async def test_an_episode_has_one_url_whatever_its_title(episode: Episode) -> None:
    feed = episode.feed
    feed.count = 0
    feed.add("guid-1", feed.asset("enclosure", URL, DATA, mime_type="audio/mpeg"), title="Corrected")
    assert (await episode.client.request(episode.path)).body == DATA


async def test_wrong_names_and_numbers_are_404(episode: Episode) -> None:
    folder, _, name = episode.path.rpartition("/")
    item = folder.rpartition("/")[0]
    for path in (
        f"{folder}/other.mp3",
        f"{folder}/{name}/x",
        f"{folder}/{name}.exe",
        f"{folder}/{name.upper()}",
        f"{item}/0/{name}",
        f"{item}/2/{name}",
        f"{item}/01/{name}",
        f"{item}/99/{name.replace('.mp3', '-99.mp3')}",
        f"{folder}/",
        episode.path.replace("/episodes/", "/assets/"),
        episode.path.replace(episode.feed.key_text, "y" * 52),
    ):
        reply = await episode.client.request(path)
        assert (path, reply.status) == (path, 404)
        assert reply.headers["content-type"].startswith("text/plain")


async def test_after_a_new_capture_of_another_type_the_old_url_still_works(episode: Episode) -> None:
    episode.feed.count = 0
    episode.feed.add("guid-1", episode.feed.asset("enclosure", URL, b"new", "m4a"))
    reply = await episode.client.request(episode.path)
    assert (reply.body, reply.headers["content-type"]) == (b"new", "audio/mp4")


@pytest.mark.parametrize(
    "path",
    [
        "/feeds/a-show/assets/../../p2prss.json",
        "/feeds/a-show/assets/..%2f..%2fp2prss.json",
        "/feeds/a-show/assets/%2e%2e/p2prss.json",
        "/static/../templates/index.html",
        "/static/..%2ftemplates%2findex.html",
        "/static/%00",
        "/feeds/..%2f..%2fetc/feed.xml",
        "/feeds/a-show/episodes/..%2f..%2f..%2fitems/1/x.xml",
        "//etc/passwd",
        "/%ff%fe",
        "http://localhost/feeds/a-show/p2prss.json",
    ],
)
async def test_no_path_leads_out_of_what_the_feed_lists(episode: Episode, path: str) -> None:
    assert (await episode.client.request(path)).status == 404


# Types


ASSETS = [
    ("image", "png", "image/png", "image/png", False),
    ("image", "svg", "image/svg+xml", "image/svg+xml", True),
    ("transcript", "vtt", "text/vtt", "text/vtt; charset=utf-8", False),
    ("transcript", "srt", "application/srt", "application/x-subrip", False),
    ("transcript", "html", "text/html", "text/plain; charset=utf-8", True),
    ("chapters", "json", "application/json+chapters", "application/json+chapters", False),
    ("transcript", "json", None, "application/json", False),
    ("inline", "js", "text/javascript", "application/octet-stream", True),
    ("enclosure", "html", "application/xhtml+xml", "text/plain; charset=utf-8", True),
    ("enclosure", "m4a", "application/octet-stream", "audio/mp4", False),
    ("enclosure", "xyz", "x/y\r\nset-cookie: a", "application/octet-stream", True),
]


@pytest.mark.parametrize(("role", "extension", "claimed", "served", "boxed"), ASSETS)
async def test_types_are_right_and_nothing_is_run(
    start_server: StartServer, role: str, extension: str, claimed: str | None, served: str, boxed: bool
) -> None:
    feed = MemoryFeed()
    asset = feed.asset(role, "https://example.org/x", b"<script>", extension, mime_type=claimed)
    feed.add("g", asset)
    client = await start_server(feed)
    reply = await client.request(f"/feeds/{feed.key_text}/assets/{asset['sha256']}.{extension}")
    assert (reply.status, reply.body) == (200, b"<script>")
    assert reply.headers["content-type"] == served
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert (reply.headers.get("content-disposition") == "attachment") is boxed
    assert ("sandbox" in reply.headers.get("content-security-policy", "")) is boxed


async def test_artwork_of_the_channel_is_an_asset_too(start_server: StartServer) -> None:
    feed = MemoryFeed()
    asset = feed.asset("image", "https://example.org/a.jpg", b"jpeg", "jpg")
    feed.put_info(channel_assets=[asset])
    client = await start_server(feed)
    reply = await client.request(f"/feeds/{feed.key_text}/assets/{asset['sha256']}.jpg")
    assert (reply.body, reply.headers["content-type"]) == (b"jpeg", "image/jpeg")


async def test_a_stored_file_that_no_item_lists_is_not_served(start_server: StartServer) -> None:
    feed = MemoryFeed()
    path = feed.capture(b"secret")
    client = await start_server(feed)
    assert (await client.request(f"/feeds/{feed.key_text}/assets/{path[10:]}")).status == 404
