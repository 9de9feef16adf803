"""A folder served over HTTP the way real origins behave and misbehave."""

from __future__ import annotations

import fnmatch
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.tools.podcast.answer import Answer
from tests.tools.podcast.body import Body
from tests.tools.podcast.request import Hit, Request
from tests.tools.podcast.rules import Rule
from tests.tools.podcast.show import read_manifest


class Origin:
    """A folder served over HTTP on a thread of its own; ``tests.tools.podcast`` has an example."""

    def __init__(
        self,
        root: Path,
        *,
        rules: Iterable[Rule | str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        log: Path | None = None,
        control: bool = False,
    ) -> None:
        self.root = root.resolve()
        self.control = control
        self._lock = threading.Lock()
        self._hits: list[Hit] = []
        self._counts: Counter[tuple[int, str]] = Counter()
        self._requests = itertools.count(1)
        self._log = log.open("a", encoding="utf-8", buffering=1) if log else None
        self.set_rules(rules)
        self.server = _Server((host, port), _Handler)
        self.server.origin = self
        self.url = f"http://{host}:{self.server.server_address[1]}"
        self.feed_url = f"{self.url}/feed.xml"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and close the log."""
        if self._thread.is_alive():
            self.server.shutdown()
            self._thread.join()
        self.server.server_close()
        if self._log:
            self._log.close()

    def set_rules(self, rules: Iterable[Rule | str]) -> None:
        """Behave by these rules from now on; their counts start anew."""
        parsed = [Rule.parse(rule) if isinstance(rule, str) else rule for rule in rules]
        with self._lock:
            self.rules = parsed
            self._counts.clear()

    @property
    def hits(self) -> list[Hit]:
        """The requests answered so far."""
        with self._lock:
            return list(self._hits)

    def clear_hits(self) -> None:
        """Forget the requests so far (a log file keeps them)."""
        with self._lock:
            self._hits.clear()

    def count(self, pattern: str = "*", *, method: str | None = None, status: int | None = None) -> int:
        """How many answered requests there were of this kind."""
        return sum(
            fnmatch.fnmatchcase(hit.path, pattern)
            and method in (None, hit.method)
            and status in (None, hit.status)
            for hit in self.hits
        )

    def begin(self, request: Request) -> Hit:
        """Note that a request came in."""
        with self._lock:
            number = next(self._requests)
        return Hit(number, time.time(), request.method, request.path, request.query, request.headers)

    def end(self, hit: Hit) -> None:
        """Note how it ended."""
        hit.seconds = round(time.time() - hit.begun, 4)
        with self._lock:
            self._hits.append(hit)
            if self._log and not self._log.closed:
                self._log.write(json.dumps(asdict(hit), ensure_ascii=False) + "\n")

    def behaviour(self, request: Request, hit: Hit) -> tuple[dict[str, Any], int]:
        """The settings that hold for a request, and the largest count among the rules that set them."""
        settings: dict[str, Any] = {}
        highest = 0
        with self._lock:
            for place, rule in enumerate(self.rules):
                if not rule.counts(request):
                    continue
                self._counts[place, request.path] += 1
                count = self._counts[place, request.path]
                if rule.holds(count):
                    highest = max(highest, count)
                    hit.rules.append(rule.pattern)
                    settings |= {key: value for key, value in vars(rule).items() if value is not None}
        return settings, highest

    def body(self, path: str, host: str) -> tuple[Body, Path] | None:
        """The file at a path, its own addresses rewritten to the host that was asked for."""
        name = unquote(path).lstrip("/") or "index.html"
        file = (self.root / name).resolve()
        if not file.is_relative_to(self.root) or not file.is_file():
            return None
        manifest = read_manifest(self.root)
        base = manifest.get("base_url", "")
        if not base or file.suffix not in (".xml", ".json") or base == f"http://{host}":
            return Body.of_file(file), file
        encoding = manifest.get("encoding", "utf-8") if file.suffix == ".xml" else "utf-8"
        text = file.read_bytes().decode(encoding).replace(base, f"http://{host}")
        return Body.of_bytes(text.encode(encoding)), file


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    origin: Origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "make-podcast"
    sys_version = ""
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """The hit log takes the place of lines on standard error."""

    def do_GET(self) -> None:
        """Answer GET."""
        parts = urlsplit(self.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(self.command, parts.path, parts.query, headers)
        origin = self.server.origin
        if origin.control and parts.path.startswith("/_origin/"):
            self._control(origin, request)
            return
        hit = origin.begin(request)
        try:
            settings, count = origin.behaviour(request, hit)
            answer = Answer(self, request, hit, settings=settings, count=count, find=origin.body)
            answer.give()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            origin.end(hit)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it by this name

    def do_PUT(self) -> None:
        """Answer PUT and DELETE: only for the origin's own controls."""
        if self.server.origin.control and self.path.startswith("/_origin/"):
            self._control(self.server.origin, Request(self.command, self.path, "", {}))
        else:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_DELETE = do_PUT  # noqa: N815 - http.server calls it by this name

    def _control(self, origin: Origin, request: Request) -> None:
        """GET or DELETE /_origin/hits; PUT /_origin/rules with a rule on each line."""
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, answer = HTTPStatus.OK, "null"
        match request.method, request.path:
            case "GET", "/_origin/hits":
                answer = json.dumps([asdict(hit) for hit in origin.hits])
            case "DELETE", "/_origin/hits":
                origin.clear_hits()
            case "PUT", "/_origin/rules":
                try:
                    origin.set_rules(line for line in data.decode().splitlines() if line.strip())
                except ValueError as error:
                    status, answer = HTTPStatus.BAD_REQUEST, json.dumps(str(error))
            case _:
                status = HTTPStatus.NOT_FOUND
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())
