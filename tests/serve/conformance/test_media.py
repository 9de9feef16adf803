"""HTTP as podcast apps need it, for episodes and assets; see the table in spec/10-http."""

from hashlib import sha256

import pytest
import trio

from p2prss.serve import media
from tests.serve.conformance.conftest import AUDIO, COVER, TEXTS, Service

ETAG = f'"{sha256(AUDIO).hexdigest()}"'
SIZE = len(AUDIO)


async def test_an_episode_comes_whole(service: Service) -> None:
    reply = await service.request(service.episode)
    assert (reply.status, reply.body) == (200, AUDIO)
    assert reply.headers["content-length"] == str(SIZE)
    assert reply.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("what", ["episode", "jpg", "vtt", "json"])
async def test_head_says_what_get_says(service: Service, what: str) -> None:
    path = service.episode if what == "episode" else service.assets[what]
    head = await service.request(path, "HEAD")
    assert len(service.blobs.fetched) <= (what != "episode")  # the list of the show's own files
    get = await service.request(path)
    del head.headers["date"], get.headers["date"]
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert get.is_whole


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=500000-500099", 500_000, 500_100),
        ("bytes=0-", 0, SIZE),
        ("bytes=999000-", 999_000, SIZE),
        ("bytes=-1000", SIZE - 1000, SIZE),
        ("bytes=-9000000", 0, SIZE),
        ("bytes=0-0", 0, 1),
        ("bytes=0-1", 0, 2),
        ("bytes=999999-999999", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=999990-9999999999", SIZE - 10, SIZE),
        ("Bytes=65535-65536", 65_535, 65_537),
    ],
)
async def test_one_range_is_answered_exactly(service: Service, asked: str, start: int, stop: int) -> None:
    reply = await service.request(service.episode, Range=asked)
    assert (reply.status, reply.body) == (206, AUDIO[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert reply.headers["content-length"] == str(stop - start)
    assert reply.headers["content-type"] == "audio/mpeg"
    assert reply.headers["etag"] == ETAG


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=99999999999-", "bytes=-0"]
)
async def test_a_range_behind_the_end_is_416(service: Service, asked: str) -> None:
    reply = await service.request(service.episode, Range=asked)
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert reply.is_whole


@pytest.mark.parametrize("asked", ["bytes=0-9,20-29", "bytes=0-0, -1", "bytes=0-,0-,0-,0-"])
async def test_several_ranges_get_the_whole(service: Service, asked: str) -> None:
    reply = await service.request(service.episode, Range=asked)
    assert (reply.status, reply.body) == (200, AUDIO)


@pytest.mark.parametrize(
    "asked", ["bytes=9-5", "bytes=a-b", "bytes=", "items=0-9", "0-9", "bytes=--5", "bytes=1-2-3"]
)
async def test_what_is_no_range_is_ignored(service: Service, asked: str) -> None:
    reply = await service.request(service.episode, Range=asked)
    assert (reply.status, reply.body) == (200, AUDIO)


async def test_if_range_resumes_only_the_same_bytes(service: Service) -> None:
    reply = await service.request(service.episode, Range="bytes=10-19", If_Range=ETAG)
    assert (reply.status, reply.body) == (206, AUDIO[10:20])
    for other in ('"another"', f"W/{ETAG}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        reply = await service.request(service.episode, Range="bytes=10-19", If_Range=other)
        assert (reply.status, reply.body) == (200, AUDIO)


async def test_the_etag_is_the_hash_of_the_bytes(service: Service) -> None:
    assert (await service.request(service.episode, "HEAD")).headers["etag"] == ETAG
    cover = await service.request(service.assets["jpg"])
    assert cover.body == COVER
    assert cover.headers["etag"] == f'"{sha256(COVER).hexdigest()}"'


async def test_if_match_asks_for_the_same_bytes(service: Service) -> None:
    for known in (ETAG, "*", f'"a", {ETAG}'):
        reply = await service.request(service.episode, Range="bytes=10-19", If_Match=known)
        assert (reply.status, reply.body) == (206, AUDIO[10:20])
    for method in ("GET", "HEAD"):
        for other in ('"another"', f"W/{ETAG}"):
            reply = await service.client.request(service.episode, method, If_Match=other)
            assert reply.status == 412


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"a", {ETAG}, "b"', f'"a",{ETAG}', "*"])
async def test_who_has_it_already_gets_304(service: Service, known: str) -> None:
    for method in ("GET", "HEAD"):
        reply = await service.request(service.episode, method, If_None_Match=known, Range="bytes=0-9")
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", ETAG)
        assert "content-range" not in reply.headers
    assert not service.blobs.fetched


async def test_who_has_other_bytes_gets_these(service: Service) -> None:
    reply = await service.request(service.episode, If_None_Match='"other", "tags"')
    assert (reply.status, reply.body) == (200, AUDIO)


async def test_media_is_never_coded(service: Service) -> None:
    reply = await service.request(service.episode, Accept_Encoding="gzip, br, *")
    assert reply.body == AUDIO
    assert "content-encoding" not in reply.headers
    assert "transfer-encoding" not in reply.headers


async def test_types_agree_on_200_and_206(service: Service) -> None:
    types = {"mp3": "audio/mpeg", "jpg": "image/jpeg", "vtt": "text/vtt; charset=utf-8"}
    types |= {"srt": "application/x-subrip", "json": "application/json+chapters"}
    paths = service.assets | {"mp3": service.episode}
    for extension, mime_type in types.items():
        for headers in ({}, {"Range": "bytes=0-3"}):
            reply = await service.request(paths[extension], **headers)
            assert reply.status == (206 if headers else 200)
            assert reply.headers["content-type"] == mime_type


async def test_texts_come_as_they_were(service: Service) -> None:
    for _, extension, data, _ in TEXTS:
        assert (await service.request(service.assets[extension])).body == data


async def test_bytes_under_an_address_never_change(service: Service) -> None:
    for path in (service.episode, *service.assets.values()):
        caching = (await service.request(path, "HEAD")).headers["cache-control"]
        assert {"public", "immutable", "max-age=31536000"} == set(caching.split(", "))


async def test_an_address_is_plain_and_ends_in_an_extension(service: Service) -> None:
    assert service.episode.isascii()
    assert service.episode.endswith(".mp3")
    name = service.episode.rpartition("/")[2].removesuffix(".mp3")
    assert name.startswith("2024-01-31-")
    other = await service.request(f"{service.episode.removesuffix('mp3')}m4a", "HEAD")
    assert (other.status, other.headers["etag"]) == (200, ETAG)


@pytest.mark.parametrize(
    "asked",
    [
        "{path}?_from=app&aw_0_1st.playerid=x",
        "{path}?",
        "{path}?a=%zz&b=%00&c=http://x//y",
        "{path}#t=30",
        "{path}?t=1#t=30",
        "/{path}",
        "{double}",
        "{path}/",
        "{encoded}",
        "http://localhost{path}",
        "http://localhost/{path}?q#f",
    ],
)
async def test_an_address_may_be_written_in_other_ways(service: Service, asked: str) -> None:
    for path in (service.episode, service.feed, service.assets["vtt"]):
        forms = {"double": path.replace("/", "//"), "encoded": path.replace(".", "%2E").replace("-", "%2d")}
        plain = await service.client.request(path)
        reply = await service.client.request(asked.format(path=path, **forms))
        assert (reply.status, reply.headers["content-type"]) == (200, plain.headers["content-type"])
        if path != service.feed:  # its addresses are those of the Host
            assert reply.body == plain.body


async def test_web_players_may_read(service: Service) -> None:
    for path in (service.episode, service.assets["vtt"], service.assets["json"]):
        for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999999-"}, {"If_None_Match": "*"}):
            reply = await service.request(path, Origin="https://player.example", **headers)
            assert reply.headers["access-control-allow-origin"] == "*"
        asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range"}
        preflight = await service.request(path, "OPTIONS", Origin="https://player.example", **asked)
        assert preflight.status == 204
        assert "Range" in preflight.headers["access-control-allow-headers"]


async def test_what_nobody_sends_is_503_before_a_length_is_promised(service: Service) -> None:
    service.blobs.remote = False
    reply = await service.request(service.episode)
    if service.is_remote:
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
    else:
        assert reply.body == AUDIO
    assert (await service.request(service.episode, "HEAD")).status == 200
    assert (await service.request(service.episode, If_None_Match=ETAG)).status == 304


def _lose_the_end(service: Service) -> None:
    """The last part of the episode can be had nowhere."""
    service.forget()
    blocks = service.blobs.blocks
    service.blobs.missing = {len(blocks) - 1, len(blocks) - 2}
    service.blobs.missing |= {index for index, block in enumerate(blocks) if AUDIO.endswith(block)}
    service.blobs.remote = False


async def test_a_body_that_ends_early_never_looks_whole(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "NEXT_CHUNK_SECONDS", 0.5)
    _lose_the_end(service)
    reply = await service.client.request(service.episode)
    assert reply.status == 200
    assert len(reply.body) < SIZE
    assert AUDIO.startswith(reply.body)
    assert not reply.is_whole
    service.blobs.remote = True
    tail = await service.client.request(
        service.episode, Range=f"bytes={len(reply.body)}-", If_Range=reply.headers["etag"]
    )
    assert reply.body + tail.body == AUDIO


async def test_an_answer_waits_for_a_peer_that_went_and_goes_on_when_it_is_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "AGAIN_SECONDS", 0.05)
    _lose_the_end(service)
    async with await service.client.connect() as stream:
        await stream.send_all(f"GET {service.episode} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = b""
        with trio.fail_after(10):
            while True:
                with trio.move_on_after(0.5) as waited:
                    data += bytes(await stream.receive_some(65536)) or b"ended"
                if waited.cancelled_caught and data:
                    break
        body = data.partition(b"\r\n\r\n")[2]
        assert AUDIO.startswith(body)
        assert 0 < len(body) < SIZE
        service.blobs.remote = True
        with trio.fail_after(10):
            while len(body) < SIZE:
                body += bytes(await stream.receive_some(65536)) or b"ended"
    assert body == AUDIO


@pytest.mark.parametrize("wrong", ["0" * 16, "../../p2prss.json", "%2e%2e%2fp2prss.json"])
async def test_other_addresses_are_404(service: Service, wrong: str) -> None:
    folder = service.episode.partition("/episodes/")[0]
    assert (await service.request(f"{folder}/episodes/{wrong}/1/x.mp3")).status == 404
    assert (await service.request(f"{folder}/assets/{wrong}.mp3")).status == 404
