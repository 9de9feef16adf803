"""How an origin behaves: rules, and their text form."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from tests.tools.podcast.request import Request

RULES_HELP = """\
A rule is a path pattern and settings:   PATTERN KEY[=VALUE] ...
PATTERN is a shell pattern over the path without its query ('*' also matches '/'); quote blanks.
All rules that match and are active hold together; of two that set one key the later wins.

Which requests (requests are counted apart for each rule and path, from 1):
  times=N             only the first N (of those left by after=)
  after=N             not the first N
  every=N             only each Nth
  method=NAME         only this method
  ranged=yes|no       only requests with, or without, a Range header
  agent=PATTERN       only these User-Agents

What the origin does:
  status=CODE         answer with this status and a short text body (404, 410, 429, 500, 503 ...)
  retry-after=VALUE   seconds, or 'date:SECONDS' for an HTTP date that far ahead
  redirect=CODE       301, 302, 303, 307 or 308, to 'to='
  to=URL              may hold {path}, {name}, {n} (the count) and {query}; '{path}' is a loop
  auth=USER:PASS      401 without these basic credentials
  swap=FILE           serve another file of the folder under this path
  type=MIME           another Content-Type ('none': no such header)
  gzip                gzip the body where the client accepts it; gzip=force does so in any case
  delay=SECONDS       wait before the status line
  rate=BYTES          so many bytes a second
  cut=BYTES|PCT%      close the connection after so much of the body
  stall=BYTES|PCT%    send so much, then nothing for 'hold=' seconds (default 3600), then close
  pause=BYTES|PCT%    send so much, then nothing for 'hold=' seconds, then the rest
  hold=SECONDS
  reset               drop the connection without an answer (TCP reset)
  length=+N|-N        announce a Content-Length that is so much too large or small
  length=none         announce none and end the body by closing;  length=chunked: chunked coding
  endless             the body again and again, without a length, until the client hangs up
  bomb=BYTES          a gzip body (Content-Encoding) that unpacks to so many zeros
  dai=BYTES           dynamic ad insertion: each request gets other bytes, about so many more
  no-range            ignore Range, announce no Accept-Ranges
  no-etag, weak-etag, no-modified, no-conditional (never 304), no-head (405 to HEAD)
  header=NAME:VALUE   one more header

Always there: GET and HEAD, ETag, Last-Modified, 304, single ranges (206, 416, If-Range), keep-alive,
and /track/ANYTHING/REST which redirects with 302 to /REST (see 'make --trackers').

Examples:
  '/feed.xml status=429 retry-after=3 times=1'      busy once
  '/old.xml redirect=301 to=/feed.xml'              a feed that moved
  '*.mp3 cut=40% times=1'                           each download breaks once, a resume works
  '*.mp3 cut=40% no-range'                          downloads always break and cannot be resumed
  '*.mp3 dai=40000'                                 ads
  '*.mp3 redirect=302 to=/media/{name}?sig={n} ranged=no times=1'
  '* auth=ada:secret'                               a private feed
  '/media/ep0002.mp3 swap=feed.xml type=text/html'  a captive portal's answer in place of audio
"""


def _portion(text: str) -> float:
    """A number of bytes, or for '40%' the negated fraction."""
    return -float(text[:-1]) / 100 if text.endswith("%") else float(text)


@dataclass(frozen=True)
class Rule:
    """One rule; see RULES_HELP.  Fields left None say nothing."""

    pattern: str
    times: int | None = None
    after: int | None = None
    every: int | None = None
    method: str | None = None
    ranged: str | None = None
    agent: str | None = None
    status: int | None = None
    retry_after: str | None = None
    redirect: int | None = None
    to: str | None = None
    auth: str | None = None
    swap: str | None = None
    type: str | None = None
    gzip: str | None = None
    delay: float | None = None
    rate: float | None = None
    cut: float | None = field(default=None, metadata={"read": _portion})
    stall: float | None = field(default=None, metadata={"read": _portion})
    pause: float | None = field(default=None, metadata={"read": _portion})
    hold: float | None = None
    reset: bool | None = None
    length: str | None = None
    endless: bool | None = None
    bomb: int | None = None
    dai: int | None = None
    no_range: bool | None = None
    no_etag: bool | None = None
    weak_etag: bool | None = None
    no_modified: bool | None = None
    no_conditional: bool | None = None
    no_head: bool | None = None
    header: str | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule from its text form."""
        words = shlex.split(text)
        if not words:
            raise ValueError("a rule needs a path pattern")
        readers = {one.name: cls._reader(one) for one in fields(cls)}
        settings: dict[str, Any] = {}
        for word in words[1:]:
            key, _, value = word.partition("=")
            name = key.replace("-", "_")
            if name not in readers or name == "pattern":
                raise ValueError(f"no rule setting is called {key!r} (see the subcommand 'rules')")
            try:
                settings[name] = readers[name](value)
            except ValueError as error:
                raise ValueError(f"{word!r}: {error}") from None
        return cls(words[0], **settings)

    @staticmethod
    def _reader(one: Any) -> Callable[[str], Any]:
        if "read" in one.metadata:
            reader: Callable[[str], Any] = one.metadata["read"]
            return reader
        kind = str(one.type).partition(" ")[0]
        readers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": lambda _: True}
        return readers.get(kind, str)

    def counts(self, request: Request) -> bool:
        """Whether this rule looks at the request at all."""
        return (
            fnmatch.fnmatchcase(request.path, self.pattern)
            and self.method in (None, request.method)
            and self.ranged in (None, "yes" if "range" in request.headers else "no")
            and (self.agent is None or fnmatch.fnmatchcase(request.headers.get("user-agent", ""), self.agent))
        )

    def holds(self, count: int) -> bool:
        """Whether this rule is active for the count-th request that it looks at."""
        place = count - (self.after or 0)
        return place > 0 and place <= (self.times or place) and place % (self.every or 1) == 0
