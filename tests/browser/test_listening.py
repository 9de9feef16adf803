"""A listener's way through the page: add a show, see it come, play, seek, copy, remove."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.browser.browser import CHROMIUM, Watched, in_browser
from tests.e2e.program import run, running
from tests.e2e.show import LOCAL, Show
from tests.fakes.narrow_way import narrow_way

BYTES_PER_SECOND = 2_000_000
PLACE = 100.0  # seconds, of about 250

pytestmark = [pytest.mark.client, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Show:
    return Show.make(
        tmp_path_factory.mktemp("show"), replace(LOCAL, episodes=6, megabytes=4, title="Two Ears")
    )


@asynccontextmanager
async def listening(show: Show, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """A publisher behind a narrow line, and an empty node. Yields: its page's address, the show's link."""
    publish = ("publish", show.feed, "--listen", "127.0.0.1:0", "--no-http")
    up = ("up", "--http", "127.0.0.1:0")
    async with running(*publish, home=tmp_path / "a") as publisher, running(*up, home=tmp_path / "b") as node:
        ready = await publisher.event("ready")
        await publisher.event("published")
        await node.event("notice")
        address = (await run("page", home=tmp_path / "b")).lines[0]["page"]
        port = int(ready["listen"][0].rpartition(":")[2])
        async with narrow_way(port, BYTES_PER_SECOND) as narrow:
            yield address, f"p2prss://{ready['key']}?peer=127.0.0.1:{narrow.port}"


def add(browser: Watched, link: str, latest: str = "3") -> None:
    page = browser.page
    page.get_by_role("link", name="Add a show").first.click()
    page.get_by_label("Key, link or web address").fill(link)
    page.get_by_label("Episodes to keep").select_option(latest)
    page.get_by_role("button", name="Add").click()
    page.wait_for_url("**/shows/*")


async def test_add_play_seek_copy_and_remove(show: Show, tmp_path: Path) -> None:
    async with listening(show, tmp_path) as (address, link):
        base = address.partition("/?")[0]

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(address)
            assert page.url == f"{base}/"
            add(browser, link)

            bar = "document.querySelector('[data-work]:not([hidden]) progress')?.value ?? 0"
            first = browser.until(bar)
            browser.until(bar, lambda value: value > first)  # it moves without loading the page again
            browser.until("document.querySelector('[data-work]').hidden")
            browser.until("document.querySelectorAll('.episode').length", lambda count: count == 6)
            browser.until("document.querySelectorAll('.local').length", lambda count: count == 3)
            assert page.get_by_role("heading", level=1).inner_text() == "Two Ears"

            away = page.locator(".episode", has_text="at peers").last
            away.get_by_role("button").click()
            browser.until("document.getElementById('audio').currentTime", lambda now: now > 0.3)
            page.evaluate(
                "(at) => { const seek = document.getElementById('seek'); seek.value = at;"
                " seek.dispatchEvent(new Event('change')); }",
                PLACE,
            )
            now = browser.until("document.getElementById('audio').currentTime", lambda now: now > PLACE + 0.3)
            assert now < PLACE + 60

            with_permission(browser, base)
            page.get_by_role("button", name="Copy").first.click()
            copied = browser.until("navigator.clipboard.readText()")
            assert copied == page.get_by_label("Feed address").input_value()
            assert copied.startswith(f"{base}/feeds/")
            assert page.evaluate("async (url) => (await fetch(url)).status", copied) == 200

            page.get_by_role("link", name="Shows").click()  # the player plays on
            page.wait_for_url(f"{base}/")
            before = page.evaluate("document.getElementById('audio').currentTime")
            browser.until("document.getElementById('audio').currentTime", lambda now: now > before)
            assert page.get_by_role("button", name="Pause").is_visible()
            page.get_by_role("button", name="Close the player").click()

            page.get_by_role("link", name="Two Ears").first.click()
            page.wait_for_url("**/shows/*")
            page.get_by_role("link", name="Remove this show").click()
            page.get_by_role("button", name="Remove").click()
            page.wait_for_url(f"{base}/")
            assert page.get_by_role("heading", level=1).inner_text() == "Nothing to listen to yet"

        await in_browser(scenario)
        assert (await run("list", home=tmp_path / "b")).lines == []


async def test_all_of_it_works_without_a_script(show: Show, tmp_path: Path) -> None:
    async with listening(show, tmp_path) as (address, link):
        base = address.partition("/?")[0]

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(address)
            add(browser, link, latest="0")
            shown = page.url
            for _ in range(50):
                page.goto(shown)
                if page.locator(".episode").count() == 6:
                    break
                page.wait_for_timeout(100)
            play = page.get_by_role("link", name="Play").first.get_attribute("href")
            assert play is not None
            page.get_by_role("heading", level=3).first.get_by_role("link").click()
            assert page.locator(".notes").inner_text()
            page.goto(f"{shown}/remove")
            page.get_by_role("button", name="Remove").click()
            assert page.url == f"{base}/"

        await in_browser(scenario, java_script_enabled=False)
        assert (await run("list", home=tmp_path / "b")).lines == []


async def test_a_browser_that_was_not_let_in_only_reads(show: Show, tmp_path: Path) -> None:
    async with listening(show, tmp_path) as (address, _):
        base = address.partition("/?")[0]

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(f"{base}/add")
            assert page.locator("form").count() == 0
            assert "p2prss page" in page.locator("main").inner_text()

        await in_browser(scenario)


def with_permission(browser: Watched, base: str) -> Any:
    browser.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=base)
