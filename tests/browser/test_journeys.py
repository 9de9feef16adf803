"""Ways through the page with the real program that do not go straight on."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.browser.browser import CHROMIUM, STEP_SECONDS, Watched, in_browser
from tests.e2e.program import run, running
from tests.e2e.show import LOCAL, Show
from tests.tools.podcast.origin import Origin

NOT_FOUND = "Failed to load resource: the server responded with a status of 4"
REFUSED = "Failed to load resource: net::ERR_CONNECTION_REFUSED"
NOW = "document.getElementById('audio').currentTime"
PAUSED = "document.getElementById('audio').paused"

pytestmark = [pytest.mark.client, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Show:
    return Show.make(
        tmp_path_factory.mktemp("show"), replace(LOCAL, episodes=12, megabytes=1, title="Two Ears")
    )


@asynccontextmanager
async def node(home: Path, http: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A node with its page; the address that lets in."""
    async with running("up", "--http", http, home=home) as program:
        with trio.fail_after(STEP_SECONDS):
            while not program.events("notice") and not program.events("ready"):
                await program.line()
        yield (await run("page", home=home)).lines[0]["page"]


async def with_a_show(home: Path, show: Show) -> None:
    await run("publish", show.feed, "--once", "--no-http", home=home)


def add(browser: Watched, base: str, source: str) -> None:
    page = browser.page
    page.goto(f"{base}/add")
    page.get_by_label("Key, link or web address").fill(source)
    page.get_by_role("button", name="Add").click()


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without a script"])
async def test_a_feed_without_a_key_is_published_after_a_question(
    script: bool, show: Show, tmp_path: Path
) -> None:
    with Origin(show.folder) as origin:
        async with node(tmp_path / "home") as address:
            base = address.partition("/?")[0]

            def scenario(browser: Watched) -> None:
                page = browser.page
                page.goto(address)
                page.get_by_label("Key, link or web address").fill(origin.feed_url)  # on the empty first page
                page.get_by_role("button", name="Add").click()
                page.get_by_role("heading", name="Publish it yourself?").wait_for()
                assert "It is your copy, not the publisher" in page.locator("main").inner_text()
                assert page.goto(f"{base}/") is not None
                assert "Nothing to listen to yet" in page.locator("main").inner_text()  # nothing was done
                add(browser, base, origin.feed_url)
                page.get_by_label("Episodes to keep and share").select_option("0")
                page.get_by_role("button", name="Publish it").click()
                page.wait_for_url("**/shows/*")
                assert page.get_by_role("heading", level=1).inner_text() == "Two Ears"
                assert "Published from here" in page.locator("main").inner_text()
                first = page.url
                add(browser, base, origin.feed_url)  # once more: it is the same, without a question
                page.wait_for_url("**/shows/*")
                assert page.url == first

            await in_browser(scenario, java_script_enabled=script)


async def test_who_may_not_or_says_nonsense_is_told_what_to_do(tmp_path: Path) -> None:
    async with node(tmp_path / "home") as address:
        base = address.partition("/?")[0]

        def scenario(browser: Watched) -> None:
            page = browser.page
            browser.expected = (NOT_FOUND, NOT_FOUND.replace("4", "5"))
            main = page.locator("main")
            page.goto(f"{base}/?token=of-another-home")
            assert "run p2prss page" in main.inner_text()
            page.goto(f"{base}/")
            assert "Run p2prss page in a terminal" in main.inner_text()
            assert page.locator("form").count() == 0
            page.goto(address)
            add(browser, base, "what is this")
            assert page.get_by_role("alert").inner_text()
            assert page.get_by_label("Key, link or web address").input_value() == "what is this"
            add(browser, base, "http://127.0.0.1:1/feed.xml")
            assert "127.0.0.1" in page.get_by_role("alert").inner_text()
            page.goto(f"{base}/add")
            browser.context.clear_cookies()  # it ran out meanwhile
            page.get_by_label("Key, link or web address").fill("y" * 52)
            page.get_by_role("button", name="Add").click()
            page.get_by_role("heading", name="This was not done").wait_for()
            assert "run p2prss page" in main.inner_text()
            page.goto(f"{base}/shows/nothing")
            page.get_by_role("link", name="See all shows").click()
            page.wait_for_url(f"{base}/")

        await in_browser(scenario)
    assert (await run("list", home=tmp_path / "home")).lines == []


async def test_the_player_goes_through_reload_back_and_tabs_and_ends_with_its_show(
    show: Show, tmp_path: Path
) -> None:
    await with_a_show(tmp_path / "home", show)
    async with node(tmp_path / "home") as address:
        base = address.partition("/?")[0]

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(address)
            page.get_by_role("link", name="Two Ears").first.click()
            browser.until("document.querySelectorAll('.episode').length", lambda count: count == 12)
            home_of_show = page.url
            page.get_by_role("button", name="Play").nth(2).click()
            browser.until(NOW, lambda now: now > 0.3)
            title = page.locator("#player-title").inner_text()
            page.evaluate("document.getElementById('audio').currentTime = 30")
            browser.until(NOW, lambda now: now > 30.1)

            page.reload()
            browser.until(NOW, lambda now: now >= 30)
            assert page.locator("#player-title").inner_text() == title

            page.evaluate("scrollTo(0, 400)")
            page.locator(".episode h3 a").nth(7).click()
            page.wait_for_url("**/shows/*/*")
            page.go_back()
            page.wait_for_url(home_of_show)
            browser.until("document.querySelectorAll('.episode').length", lambda count: count == 12)
            browser.until("scrollY", lambda place: place > 0)
            assert page.locator("#player").is_visible()

            page.get_by_role("button", name="Play", exact=True).or_(
                page.get_by_role("button", name="Pause", exact=True)
            ).wait_for()
            if page.evaluate(PAUSED):
                page.locator("#toggle").click()
            browser.until(PAUSED, lambda paused: not paused)
            other = browser.context.new_page()
            other.goto(home_of_show)
            other.get_by_role("button", name="Play").nth(4).click()
            browser.until(PAUSED)  # one at a time
            other.get_by_role("link", name="Remove this show").click()
            other.get_by_role("button", name="Remove").click()
            other.wait_for_url(f"{base}/")
            assert not other.locator("#player").is_visible()
            browser.expected = (NOT_FOUND,)
            browser.until("document.getElementById('player').hidden")
            browser.until("document.querySelector('main').innerText", lambda text: "There is nothing" in text)

        await in_browser(scenario)


async def test_the_page_goes_on_when_its_program_is_back(show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = f"127.0.0.1:{free.getsockname()[1]}"
    stopped, back, seen = trio.Event(), trio.Event(), trio.Event()

    def scenario(browser: Watched) -> None:
        page = browser.page
        page.goto(address)
        browser.until("document.getElementById('offline').hidden")
        browser.expected = (REFUSED, "Failed to load resource: net::ERR_")
        trio.from_thread.run_sync(stopped.set)
        page.get_by_text("p2prss does not answer").wait_for()
        trio.from_thread.run_sync(seen.set)
        trio.from_thread.run(back.wait)
        browser.until("document.getElementById('offline').hidden")
        browser.until("document.querySelector('main').innerText", lambda text: "Two Ears" in text)

    finished = trio.Event()

    async def watch() -> None:
        await in_browser(scenario)
        finished.set()

    async with trio.open_nursery() as nursery:
        async with node(home, http) as address:
            nursery.start_soon(watch)
            await stopped.wait()
        await seen.wait()
        await with_a_show(home, show)
        async with node(home, http):
            back.set()
            await finished.wait()
