"""What the headers of a reply say, however they are written."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.feed.origin.reply import links_of, max_age_of
from p2prss.feed.origin.retries import retry_after

URL = "https://show.example/a/feed.xml"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"cache-control": "max-age=600"}, 600),
        ({"cache-control": 'public, Max-Age = "60"', "age": "10"}, 50),
        ({"cache-control": "max-age=60", "age": "100"}, 0),
        ({"cache-control": "s-maxage=5, no-cache"}, None),
        ({"cache-control": "max-age=-1"}, None),
    ],
)
def test_how_long_a_reply_may_be_kept(headers: dict[str, str], seconds: float | None) -> None:
    assert max_age_of(httpx.Headers(headers)) == seconds


@pytest.mark.parametrize(
    ("values", "links"),
    [
        (["<https://hub.example/>; rel=hub"], [("hub", "https://hub.example/")]),
        (
            ['</hub>; title="x"; rel="HUB self"'],
            [("hub", "https://show.example/hub"), ("self", "https://show.example/hub")],
        ),
        (
            ["<x>;rel=self, <y>;rel=hub"],
            [("self", "https://show.example/a/x"), ("hub", "https://show.example/a/y")],
        ),
        (
            ["<x>;rel=self", "<y>;rel=hub"],
            [("self", "https://show.example/a/x"), ("hub", "https://show.example/a/y")],
        ),
        (["<http://[>; rel=hub", "<x>", "nothing"], []),
    ],
)
def test_links(values: list[str], links: list[tuple[str, str]]) -> None:
    assert list(links_of(httpx.Headers([("link", value) for value in values]), URL)) == links


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_any_headers_are_read(text: str) -> None:
    headers = httpx.Headers([(name, text.encode("latin-1")) for name in ("link", "cache-control", "age")])
    assert len(links_of(headers, URL)) <= 20
    assert (max_age_of(headers) or 0) >= 0
    assert (retry_after(text) or 0) >= 0
