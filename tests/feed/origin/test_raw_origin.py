"""Answers that no web server gives by itself, byte for byte, and what becomes of them."""

import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from p2prss.errors import FetchError, OriginBusyError
from p2prss.feed.origin.access import Access
from p2prss.feed.origin.fetch import Fetched, Fetcher, Retries, Validators
from p2prss.units import KIB, MIB

BODY = b"ID3\x04" + Random(2).randbytes(200_000 - 4)
QUICK = Retries(attempts=3, first_wait_seconds=0.01, max_wait_seconds=2, random=Random(1))
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@asynccontextmanager
async def raw_origin(*answers: bytes | Callable[[], Sequence[bytes]]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that gives these answers one after the other, the last for ever, and closes after each.

    Yields: its address, and the requests it has got.
    """
    requests: list[str] = []

    async def answer(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := await stream.receive_some()):
            head += data
        requests.append(head.decode("latin-1").lower())
        reply = answers[min(len(requests), len(answers)) - 1]
        try:
            for piece in [reply] if isinstance(reply, bytes) else reply():
                await stream.send_all(piece)
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}", requests
        nursery.cancel_scope.cancel()


async def fetch(url: str, tmp_path: Path, **options: object) -> Fetched:
    async with Fetcher(url) as fetcher:
        given = {"max_bytes": MIB, "retries": QUICK, **options}
        return await fetcher.fetch(f"{url}/a.mp3", tmp_path / "body", **given)  # type: ignore[arg-type]


def whole(body: bytes = BODY, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return OK + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def cut(etag: bytes) -> bytes:
    return whole(BODY, b"ETag: " + etag)[:-100_000]


def part(start: int, body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, len(body) - 1, len(body))
    return b"HTTP/1.1 206 Partial\r\nConnection: close\r\n" + lines + span + b"\r\n" + body[start:]


async def test_nothing_has_changed_is_no_answer_to_who_has_nothing(tmp_path: Path) -> None:
    async with raw_origin(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n") as (url, _):
        with pytest.raises(FetchError, match="304"):
            await fetch(url, tmp_path)
        assert (await fetch(url, tmp_path, validators=Validators('"a"'))).not_modified


@pytest.mark.parametrize(
    "headers", [[b'ETag: "new"'], [b'ETag: W/"old"'], []], ids=["other", "weak", "without"]
)
async def test_the_rest_of_another_file_is_never_put_behind_the_start_of_one(
    tmp_path: Path, headers: list[bytes]
) -> None:
    """RFC 9110, section 14.5: 206 has the ETag that 200 would have; a server that ignores If-Range is told
    by it. One that leaves it out is believed."""
    other = BODY[:50_000] + Random(3).randbytes(150_000)
    rest = part(100_000, other, *headers)
    async with raw_origin(cut(b'"old"'), rest, whole(other, b'ETag: "new"')) as (url, requests):
        found = await fetch(url, tmp_path)
    assert 'if-range: "old"' in requests[1]
    if headers:
        assert found.sha256 == hashlib.sha256(other).hexdigest()
        assert "range:" not in requests[2]
    else:
        assert found.byte_length == len(BODY)


async def test_a_range_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    async with raw_origin(part(100, BODY), part(0, BODY), whole()) as (url, requests):
        assert (await fetch(url, tmp_path)).sha256 == hashlib.sha256(BODY).hexdigest()
    assert len(requests) == 3


@pytest.mark.parametrize("kind", ["name", "members"])
async def test_gzip_that_never_becomes_anything_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("p2prss.feed.origin.download.SLOW_SECONDS", 0.1)
    piece = b"x" if kind == "name" else gzip.compress(b"")
    start = b"\x1f\x8b\x08\x08" + bytes(6) if kind == "name" else b""

    async def trickle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with trio.move_on_after(20):
            try:
                await stream.send_all(OK + b"Content-Encoding: gzip\r\n\r\n" + start)
                while True:
                    await stream.send_all(piece)
                    await trio.sleep(0.01)
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, trickle, [listener])
        with pytest.raises(FetchError, match="too slowly"):
            await fetch(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", tmp_path)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "value",
    [
        *(b"-5", b"-1e99", b"9" * 90, b"1e5", b"0x10", b"\xb2", b"Wed, 31 Dec 9999 23:59:59 GMT", b"nan"),
        *(b"Mon, 01 Jan 0001 00:00:00 +2359", b"Sun, 06 Nov 1994 08:49:37 GMT", b"inf", b"1, 2", b""),
    ],
)
@pytest.mark.parametrize("status", [b"429 Slow", b"503 No"])
async def test_silly_waits_end_in_one_line(tmp_path: Path, status: bytes, value: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: "
    async with raw_origin(head + value + b"\r\n\r\n") as (url, requests):
        with pytest.raises(OriginBusyError) as caught:
            await fetch(url, tmp_path)
    assert len(requests) in (1, 3)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5" + b";x" * 300 * KIB,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(50_000)) + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000,
        b"HTTP/1.1 200 \x1b[31m\xc2\x9b31m\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 999 \xc2\x9b31mred\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: //\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://\\@[fe80::1%25lo]/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://a.example:99999/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://xn--/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://" + b"a" * 300 + b"/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nabc",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none_is_one_line(tmp_path: Path, answer: bytes) -> None:
    async with raw_origin(answer) as (url, requests):
        with trio.fail_after(30), pytest.raises(FetchError) as caught:
            await fetch(url, tmp_path)
    assert 1 <= len(requests) <= 3
    text = str(caught.value)
    assert len(text) < 300
    assert text.isprintable()


async def test_credentials_and_cookies_stay_where_they_belong(tmp_path: Path) -> None:
    async with raw_origin(whole(BODY, b"Set-Cookie: tracker=1; Path=/")) as (elsewhere, strange):
        redirect = (
            b"HTTP/1.1 302 F\r\nConnection: close\r\nSet-Cookie: session=s3cret\r\nLocation: "
            + elsewhere.encode()
            + b"/x\r\nContent-Length: 0\r\n\r\n"
        )
        async with raw_origin(redirect, redirect) as (url, own):
            access = Access.of(
                credentials="Authorization: Bearer s3cret\nCookie: id=s3cret",
                private_hosts=["127.0.0.1"],
            )
            async with Fetcher(f"{url}/feed.xml", access) as fetcher:
                for _ in range(2):
                    await fetcher.fetch(f"{url}/a.mp3", tmp_path / "body", max_bytes=MIB, retries=QUICK)
    assert all("bearer s3cret" in request and "cookie: id=s3cret" in request for request in own)
    assert not any("session=" in request for request in own)
    assert len(strange) == 2
    assert not any("s3cret" in request or "cookie" in request for request in strange)
