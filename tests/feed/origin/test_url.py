"""Which addresses may be private, and what of them is private."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.feed.origin.url import secrets_of


@pytest.mark.parametrize(
    ("url", "values"),
    [
        ("https://ada:s%40cret@a.example/feed", ["s@cret"]),
        ("https://ada@a.example/feed", ["ada"]),
        ("https://www.patreon.example/rss/show?auth=A1b2C3&show=7", ["A1b2C3"]),
        ("https://a.example/feed?id=1&access_token=x%2By", ["x+y"]),
        ("https://a.example/feed?accessToken=1&X-Amz-Signature=2&apikey=3&sig=4", ["1", "2", "3", "4"]),
        ("https://a.example/feed?Key-Pair-Id=K&user_key=U", ["K", "U"]),
        ("https://a.example/feed", []),
        ("https://a.example/?feed=rss2&author=5&keyword=key&design=token&page=2", []),
        ("https://a.example/feed?token=&auth", []),
        ("https://@a.example/feed", []),
        ("file:///shows/token/feed.xml", []),
    ],
)
def test_what_looks_like_a_secret(url: str, values: list[str]) -> None:
    assert [value for _, value in secrets_of(url)] == values


@given(st.text())
def test_any_address_is_looked_at(url: str) -> None:
    secrets_of(f"https://{url}")
    secrets_of(url)
