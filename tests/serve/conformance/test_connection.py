"""HTTP/1.0, connections that are used again, and other methods; see the table in spec/10-http."""

import trio

from tests.serve.conformance.conftest import AUDIO, Service
from tests.serve.conftest import read_reply


async def test_many_requests_on_one_connection(service: Service) -> None:
    async with await service.client.connect() as stream:
        for method, path, header, status, body in (
            ("GET", service.feed, "", 200, None),
            ("HEAD", service.episode, "", 200, b""),
            ("GET", service.episode, "Range: bytes=5-9\r\n", 206, AUDIO[5:10]),
            ("GET", service.episode, "Range: bytes=9999999-\r\n", 416, None),
            ("GET", service.episode, "If-None-Match: *\r\n", 304, b""),
            ("GET", "/nothing", "", 404, b"not found\n"),
            ("GET", service.episode, "", 200, AUDIO),
            ("OPTIONS", service.episode, "", 204, b""),
            ("POST", service.feed, "Content-Length: 3\r\n", 405, None),
            ("GET", "/healthz", "", 200, b"ok\n"),
        ):
            service.forget()
            content = "abc" if method == "POST" else ""
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n{content}"
            await stream.send_all(request.encode())
            with trio.fail_after(10):
                reply = await read_reply(stream, has_body=method != "HEAD" and status not in (204, 304))
            assert reply.status == status, (method, path)
            assert body is None or reply.body == body


async def test_requests_that_do_not_wait_are_answered_in_order(service: Service) -> None:
    asked = b"".join(
        f"GET {service.episode} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={at}-{at}\r\n\r\n".encode()
        for at in (3, 1, 2)
    )
    async with await service.client.connect() as stream:
        service.forget()
        await stream.send_all(asked)
        data = b""
        with trio.fail_after(10):
            while data.count(b"HTTP/1.1 206") < 3 or not data.endswith(AUDIO[2:3]):
                data += await stream.receive_some(65536)
    bodies = [part.partition(b"\r\n\r\n")[2][:1] for part in data.split(b"HTTP/1.1 206")[1:]]
    assert b"".join(bodies) == AUDIO[3:4] + AUDIO[1:2] + AUDIO[2:3]


async def test_the_head_of_an_answer_is_written_as_usual(service: Service) -> None:
    """mpg321 knows no ``content-type``, and others look for the words behind the status."""
    async with await service.client.connect() as stream:
        await stream.send_all(
            f"HEAD {service.feed} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode(),
        )
        head = b""
        with trio.fail_after(10):
            async for data in stream:
                head += data
    status, *lines = head.decode("latin-1").rstrip().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    names = {line.partition(":")[0] for line in lines}
    assert names >= {"Content-Type", "Content-Length", "ETag", "Date", "Connection", "Cache-Control"}
    assert all(part[0].isupper() for name in names for part in name.split("-"))
    part = await service.send(
        f"GET {service.episode} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-0\r\n\r\n".encode()
    )
    assert part.status == 206


async def test_a_request_that_expects_a_word_first_is_answered(service: Service) -> None:
    asked = f"GET {service.episode} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"
    async with await service.client.connect() as stream:
        service.forget()
        await stream.send_all(asked.encode())
        with trio.fail_after(10):
            first = await read_reply(stream)
            if first.status == 100:
                first = await read_reply(stream)
    assert (first.status, first.body) == (200, AUDIO)


async def test_http_1_0_gets_a_length_and_an_end(service: Service) -> None:
    for path, body in ((service.episode, AUDIO), (service.feed, None)):
        reply = await service.send(f"GET {path} HTTP/1.0\r\nConnection: close\r\n\r\n".encode())
        assert reply.status == 200
        assert reply.is_whole
        assert body is None or reply.body == body
        assert "transfer-encoding" not in reply.headers
        assert reply.headers["connection"] == "close"


async def test_other_methods_are_refused(service: Service) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        for path in (service.feed, service.episode, service.assets["jpg"]):
            reply = await service.request(path, method)
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_no_answer_is_taken_for_another_type(service: Service) -> None:
    for path in (service.feed, service.episode, *service.assets.values(), "/", "/opml.xml", "/nothing"):
        reply = await service.request(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
