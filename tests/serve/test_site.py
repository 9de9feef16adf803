"""Pages of strangers: which links lead to the copy, and what a browser is told of them."""

import pytest

from p2prss.serve.site import rewrite_links, site_delivery, site_policy

ROOT = "http://127.0.0.1:7737/feeds/key/site/"
BASE = "https://blog.example/journal/"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="/journal/x">', f'<a href="{ROOT}x">'),
        ("<a href=/journal/x>", f"<a href={ROOT}x>"),
        ("<a\nHREF = 'https://blog.example/journal/x#y'>", f"<a\nHREF = '{ROOT}x#y'>"),
        ('<img src="http://blog.example/journal/a.png">', f'<img src="{ROOT}a.png">'),
        ('<img src="//blog.example/journal/a.png">', f'<img src="{ROOT}a.png">'),
        (
            '<img srcset="/journal/a.png 1x, /journal/b.png 2x">',
            f'<img srcset="{ROOT}a.png 1x, {ROOT}b.png 2x">',
        ),
        ("a { background: url(/journal/a.png) }", f"a {{ background: url({ROOT}a.png) }}"),
        ('@import "/journal/b.css";', f'@import "{ROOT}b.css";'),
        ('<a href="x/y">', '<a href="x/y">'),
        ('<a href="/other/x">', '<a href="/other/x">'),
        ('<a href="https://other.example/journal/x">', '<a href="https://other.example/journal/x">'),
        ("<p>see https://blog.example/journal/x</p>", "<p>see https://blog.example/journal/x</p>"),
    ],
)
def test_links_to_where_the_site_stood_lead_to_the_copy(before: str, after: str) -> None:
    assert rewrite_links(before.encode(), BASE, ROOT).decode() == after


def test_without_an_address_the_root_is_that_of_the_site() -> None:
    assert rewrite_links(b'<a href="/x"><a href="//host/x">', "", ROOT) == (
        f'<a href="{ROOT}x"><a href="//host/x">'.encode()
    )


@pytest.mark.parametrize("base", ["http://[", "x", "https://a.example/(.*)+[", "/" * 4000])
def test_whatever_the_publisher_says_of_its_address_does_no_harm(base: str) -> None:
    page = b'<a href="/x"> <img srcset="' + b"/a 1x, " * 1000 + b'"' + b" href=" * 1000
    assert len(rewrite_links(page, base, ROOT)) >= len(page)


def test_bytes_that_are_no_text_stay() -> None:
    everything = bytes(range(256)) * 3
    assert rewrite_links(everything, BASE, ROOT) == everything


@pytest.mark.parametrize(
    ("ending", "mime_type"),
    [
        ("html", "text/html"),
        ("svg", "image/svg+xml"),
        ("js", "text/plain"),
        ("xml", "text/plain"),
        ("xhtml", "text/plain"),
        ("mp3", "audio/mpeg"),
        ("woff2", "font/woff2"),
        ("exe", "application/octet-stream"),
        ("/x", "application/octet-stream"),
    ],
)
def test_types_go_by_the_name(ending: str, mime_type: str) -> None:
    assert site_delivery(ending).mime_type == mime_type


def test_nothing_but_the_site_itself_is_loaded_and_nothing_runs() -> None:
    policy = dict(
        part.split(" ", 1) for part in site_policy(ROOT).replace("sandbox", "sandbox -").split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["sandbox"] == "-"
    sources = {word for name, value in policy.items() if name.endswith("-src") for word in value.split()}
    assert sources == {"'none'", "'unsafe-inline'", "data:", ROOT}
