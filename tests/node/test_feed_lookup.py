"""Looking for a feed's key at hosts that mean no good."""

from pathlib import Path
from typing import Any

import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FetchError
from p2prss.feed.origin.fetch import Fetched
from p2prss.node.feed_lookup import Look

KEY = format_key(CoreKey(bytes(range(32))))
FEED = (
    '<rss version="2.0" xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel>'
    f'<podcast:txt purpose="p2prss">{KEY}</podcast:txt></channel></rss>'
)
PAGE = '<!doctype html><link rel="alternate" type="application/rss+xml" href="{}">'


class Web:
    """A fetcher of a web without wires: address to body, or to the address of a redirect."""

    def __init__(self, source: str, pages: dict[str, str]) -> None:
        self.source_url = source
        self.asked: list[str] = []
        self._pages = pages

    async def fetch(self, url: str, into: Path, **_: object) -> Fetched:
        redirects = []
        self.asked.append(url)
        while (body := self._pages.get(url, "")).startswith("http"):
            url = body
            redirects.append((302, url))
        if not body:
            raise FetchError(f"{url}: nothing there")
        await trio.Path(into).write_text(body)
        return Fetched(into, url, len(body), redirects=tuple(redirects))


async def look(tmp_path: Path, source: str, pages: dict[str, str]) -> tuple[str | None, list[str]]:
    """The key that is found, and what was asked for."""
    web: Any = Web(source, pages)
    search = Look(web, tmp_path / "body")
    found = await search.at_address(source) or await search.at_host(source)
    return found and format_key(found.link.key), web.asked


SAFE, PLAIN = "https://show.example/", "http://show.example/"


@pytest.mark.parametrize(
    ("source", "pages"),
    [
        (SAFE, {SAFE: FEED}),
        (SAFE, {SAFE: PAGE.format("/feed"), SAFE + "feed": FEED}),
        (PLAIN, {PLAIN: SAFE, SAFE: FEED}),
        (PLAIN, {PLAIN: PAGE.format(PLAIN + "feed"), PLAIN + "feed": FEED}),
        (SAFE, {SAFE: "<html>", SAFE + ".well-known/p2prss": f"# ours\n{KEY}\n"}),
        (SAFE, {SAFE: "<html>", SAFE + ".well-known/p2prss": f"x\n{'y' * 52} z\np2prss://{KEY}/ {SAFE}"}),
    ],
)
async def test_a_key_is_found(tmp_path: Path, source: str, pages: dict[str, str]) -> None:
    assert (await look(tmp_path, source, pages))[0] == KEY


@pytest.mark.parametrize(
    "pages",
    [
        {SAFE: PAGE.format(PLAIN + "feed"), PLAIN + "feed": FEED},
        {SAFE: PAGE.format("/feed"), SAFE + "feed": PLAIN + "feed", PLAIN + "feed": FEED},
        {SAFE: "<html>", SAFE + ".well-known/p2prss": PLAIN + "x", PLAIN + "x": KEY},
        {SAFE: "<html>", SAFE + ".well-known/p2prss": "<!doctype html><p>Not found</p>"},
        {SAFE: "<html>", SAFE + ".well-known/p2prss": f"<p>{KEY}</p>"},
        {SAFE: "<html>" + "<link rel=alternate type=application/rss+xml href=/none>" * 1000},
    ],
)
async def test_what_anybody_on_the_way_could_have_written_names_no_key(
    tmp_path: Path, pages: dict[str, str]
) -> None:
    key, asked = await look(tmp_path, SAFE, pages)
    assert key is None
    assert not any(url.startswith("http:") for url in asked)
    assert len(asked) <= 5


async def test_a_feed_that_leads_through_plain_http_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="without https anybody on the way"):
        await look(tmp_path, SAFE, {SAFE: PLAIN, PLAIN: SAFE + "feed", SAFE + "feed": FEED})
