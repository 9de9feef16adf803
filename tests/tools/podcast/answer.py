"""One answer of an origin: rules, conditions, ranges, and how it breaks off."""

import base64
import gzip
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from typing import Any

from tests.tools.podcast.body import Body
from tests.tools.podcast.media import TYPES
from tests.tools.podcast.noise import BLOCK
from tests.tools.podcast.request import Hit, Request


class Answer:
    """One answer, from the rules to the last byte.

    Args: settings: what the rules say about the request; count: the largest count among those rules;
    find: the file at a path, for the host that was asked for.
    """

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        request: Request,
        hit: Hit,
        *,
        settings: dict[str, Any],
        count: int,
        find: Callable[[str, str], tuple[Body, Path] | None],
    ) -> None:
        self.handler = handler
        self.request = request
        self.hit = hit
        self.settings = settings
        self.count = count
        self._find = find
        self.headers: list[tuple[str, str]] = []

    def give(self) -> None:
        """Send the whole answer."""
        say = self.settings.get
        time.sleep(say("delay") or 0)
        if say("reset"):
            linger = struct.pack("ii", 1, 0)
            self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # The reset goes out when the last reference is gone, which is when the handler's are.
            self.handler.close_connection = True
            self.handler.connection.close()
            raise ConnectionResetError
        if extra := say("header"):
            name, _, value = extra.partition(":")
            self.headers.append((name, value.strip()))
        if self._refused():
            return
        target = f"/{say('swap')}" if say("swap") else self.request.path
        host = self.request.headers.get("host", "")
        found = self._find(target, host)
        if found is None:
            self._brief(HTTPStatus.NOT_FOUND)
            return
        self._file(*found)

    def _refused(self) -> bool:
        """Answers that need no file: refusals, failures and redirects."""
        say, request = self.settings.get, self.request
        if auth := say("auth"):
            given = request.headers.get("authorization", "")
            if given != "Basic " + base64.b64encode(auth.encode()).decode():
                self.headers.append(("WWW-Authenticate", 'Basic realm="podcast"'))
                self._brief(HTTPStatus.UNAUTHORIZED)
                return True
        if wait := say("retry_after"):
            ahead = wait.removeprefix("date:")
            value = wait if ahead == wait else formatdate(time.time() + float(ahead), usegmt=True)
            self.headers.append(("Retry-After", value))
        if code := say("redirect"):
            names = {"path": request.path, "name": PurePosixPath(request.path).name}
            target = (say("to") or "{path}").format(**names, n=self.count, query=request.query)
            self.headers.append(("Location", target))
            self._brief(code)
            return True
        if say("no_head") and request.method == "HEAD":
            self.headers.append(("Allow", "GET"))
            self._brief(HTTPStatus.METHOD_NOT_ALLOWED)
            return True
        if code := say("status"):
            self._brief(code)
            return True
        if hop := re.fullmatch(r"/track/[^/]+(/.+)", request.path):
            self.headers.append(("Location", hop[1] + (f"?{request.query}" if request.query else "")))
            self._brief(HTTPStatus.FOUND)
            return True
        return False

    def _brief(self, code: int) -> None:
        """An answer with a line of text."""
        phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else "Unnamed"
        bodiless = code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        self.headers.append(("Content-Type", "text/plain; charset=utf-8"))
        self._send(code, Body.of_bytes(b"" if bodiless else f"{code} {phrase}\n".encode()))

    def _file(self, body: Body, path: Path) -> None:
        say, asked = self.settings.get, self.request.headers
        modified = int(path.stat().st_mtime)
        if extra := say("dai"):
            body = Body.of_file(path).with_advertisement(extra, self.hit.number)
        if size := say("bomb"):
            body = Body.of_bytes(_bomb(size))
            self.headers.append(("Content-Encoding", "gzip"))
        coding = say("gzip")
        if coding is not None:
            self.headers.append(("Vary", "Accept-Encoding"))
            if coding == "force" or re.search(
                r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", asked.get("accept-encoding", "")
            ):
                packed = gzip.compress(b"".join(body.read(0, body.size, BLOCK)), mtime=0)
                body = replace(Body.of_bytes(packed), tag=f"{body.tag}-gzip")
                self.headers.append(("Content-Encoding", "gzip"))
        kind = say("type") or TYPES.get(path.suffix, "application/octet-stream")
        if kind != "none":
            self.headers.append(("Content-Type", kind))
        etag = f'W/"{body.tag}"' if say("weak_etag") else f'"{body.tag}"'
        if not say("no_etag"):
            self.headers.append(("ETag", etag))
        if not say("no_modified"):
            self.headers.append(("Last-Modified", formatdate(modified, usegmt=True)))
        if not say("no_conditional") and self._unchanged(etag, modified):
            self._send(HTTPStatus.NOT_MODIFIED, Body.of_bytes(b""))
            return
        if say("no_range"):
            self._send(HTTPStatus.OK, body)
            return
        self.headers.append(("Accept-Ranges", "bytes"))
        span = self._range(body.size, etag, modified)
        if span is None:
            self._send(HTTPStatus.OK, body)
        elif span[0] >= span[1]:
            self.headers.append(("Content-Range", f"bytes */{body.size}"))
            self._brief(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        else:
            self.headers.append(("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{body.size}"))
            self._send(HTTPStatus.PARTIAL_CONTENT, body, span)

    def _unchanged(self, etag: str, modified: int) -> bool:
        """Whether the client's copy is still good."""
        asked, say = self.request.headers, self.settings.get
        if (tags := asked.get("if-none-match")) is not None:
            known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
            return not say("no_etag") and ("*" in known or etag.removeprefix("W/") in known)
        since = asked.get("if-modified-since")
        return bool(since) and not say("no_modified") and modified <= _http_date(since or "")

    def _range(self, size: int, etag: str, modified: int) -> tuple[int, int] | None:
        """The span asked for; an empty one if it lies outside, None for the whole body."""
        asked = self.request.headers
        found = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", asked.get("range", ""))
        if not found or not (found[1] or found[2]):
            return None
        if condition := asked.get("if-range"):
            fresh = condition == etag if '"' in condition else _http_date(condition) == modified
            if not fresh or (etag.startswith("W/") and '"' in condition):
                return None
        if not found[1]:
            return max(0, size - int(found[2])), size if int(found[2]) else 0
        start, stop = int(found[1]), int(found[2]) + 1 if found[2] else size
        if stop <= start < size:
            return None
        return start, min(stop, size)

    def _send(self, code: int, body: Body, span: tuple[int, int] | None = None) -> None:
        """Status line, headers and as much of the body as the rules let through."""
        say, handler = self.settings.get, self.handler
        start, stop = span or (0, body.size)
        self.hit.status = code
        bodiless = self.request.method == "HEAD" or code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        told = say("length")
        closing = say("endless") or (told is not None and told != "chunked")
        handler.send_response(code)
        for name, value in self.headers:
            handler.send_header(name, value)
        if told == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
        elif (
            told != "none"
            and not say("endless")
            and code not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        ):
            handler.send_header("Content-Length", str(max(0, stop - start + int(told or 0))))
        if closing:
            handler.send_header("Connection", "close")
        handler.end_headers()
        if bodiless:
            self.hit.complete = True
            return
        while say("endless"):  # ends when the client hangs up
            self._stream(body, start, stop, chunked=told == "chunked")
        size = stop - start
        limit = min(self._portion("cut", size), self._portion("stall", size))
        pause = min(self._portion("pause", size), limit)
        self._stream(body, start, start + pause, chunked=told == "chunked")
        if pause < limit:
            time.sleep(say("hold", 3600))
            self._stream(body, start + pause, start + limit, chunked=told == "chunked")
        if limit < size:
            if say("stall") is not None:
                time.sleep(say("hold", 3600))
            handler.close_connection = True
            return
        if told == "chunked":
            handler.wfile.write(b"0\r\n\r\n")
        self.hit.complete = not closing or told == "none"

    def _portion(self, key: str, size: int) -> int:
        """How much of a body a setting lets through; all of it where it is not set."""
        value: float | None = self.settings.get(key)
        if value is None:
            return size
        return min(size, round(size * -value if value < 0 else value))

    def _stream(self, body: Body, start: int, stop: int, *, chunked: bool) -> None:
        rate = self.settings.get("rate")
        step = max(1, min(BLOCK, int(rate / 20))) if rate else BLOCK
        begun, sent = time.monotonic(), 0
        for data in body.read(start, stop, step):
            self.handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            sent += len(data)
            self.hit.sent += len(data)
            if rate:
                time.sleep(max(0.0, begun + sent / rate - time.monotonic()))


def _bomb(size: int) -> bytes:
    """So many zeros, packed."""
    packer = zlib.compressobj(9, wbits=31)
    blocks = [packer.compress(bytes(min(BLOCK, size - at))) for at in range(0, size, BLOCK)]
    return b"".join([*blocks, packer.flush()])


def _http_date(text: str) -> int:
    """Seconds since the epoch; -1 for what is no date."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except ValueError:
        return -1
