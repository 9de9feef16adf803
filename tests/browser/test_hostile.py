"""A feed that tries everything runs nothing, and every page fits its window."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio

from p2prss.serve.actions import FeedState, Work
from p2prss.serve.app import create_app
from p2prss.serve.server import bind_tcp, serve_http
from tests.browser.browser import CHROMIUM, Watched, in_browser
from tests.fakes.memory_actions import TOKEN, MemoryActions
from tests.fakes.memory_drive import KEY, MemoryFeed, MemoryLibrary
from tests.tools.podcast.media import png

WIDTHS: Final = (320, 390, 1024, 1600)
LEAST_TARGET: Final = 44  # pixels, of what a finger presses

TOO_WIDE_BY: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"  # pixels

ITUNES: Final = "http://www.itunes.com/dtds/podcast-1.0.dtd"
SCRIPT: Final = "<script>pwned=1;alert(1)</script>"
SVG: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(2)"><script>alert(3)</script>'
    '<image href="http://evil.example/x.png"/></svg>'
)
NOTES: Final = (
    f"{SCRIPT}<p onclick='alert(4)' onmouseover='alert(5)' style='position:fixed;inset:0'>Notes</p>"
    '<a href="javascript:alert(6)">one</a><a href=" java&#10;script:alert(7)">two</a>'
    '<a href="data:text/html,<script>alert(8)</script>">three</a><a href="https://evil.example/">four</a>'
    '<img src=x onerror="alert(9)"><img src="https://evil.example/pixel.gif">'
    f"{SVG}<iframe src='javascript:alert(10)'></iframe><iframe srcdoc='{SCRIPT}'></iframe>"
    '<form action="/add" method="post"><input name="source" autofocus onfocus="alert(11)"></form>'
    '<meta http-equiv="refresh" content="0;url=https://evil.example/"><base href="https://evil.example/">'
    '<link rel="stylesheet" href="https://evil.example/x.css"><style>@import "https://evil.example/y.css";</style>'
    '<object data="https://evil.example/"></object><embed src="https://evil.example/"><math><mi//xlink:href="x">'
    '<video poster="https://evil.example/p" src="https://evil.example/v" autoplay></video>'
    '<template><img src=x onerror="alert(12)"></template><noscript><p title="</noscript>'
    '<img src=x onerror=alert(13)>">'
)
TITLES: Final = (
    SCRIPT,
    '"><img src=x onerror="alert(14)">',
    "' onfocus='alert(15)' autofocus='",
    "{{ 7 * 7 }} {% raw %} ${alert(16)}",
    "\u202egnihtemos\u202e \u2066isolated",
    "x" * 900,
    "مرحبا بالعالم",
    "A\u0300" * 400,
    " \n\t ",
)


def hostile_feed() -> MemoryFeed:
    feed = MemoryFeed(title=f"{SCRIPT}\"'>\u202e{'W' * 3000}")
    cover = feed.asset("image", "https://evil.example/c.svg", SVG.encode(), "svg", mime_type="image/png")
    other = feed.asset(
        "image", "https://evil.example/d.svg", SVG.encode() + b" ", "svg", mime_type="image/svg+xml"
    )
    feed.put_info(title="short", channel_assets=[cover, other])
    feed.drive.put(
        "/channel.xml",
        f"<rss version='2.0' xmlns:itunes='{ITUNES}'><channel><title>t</title>"
        "<link>javascript:alert(18)</link>"
        f"<itunes:author><![CDATA[{SCRIPT}]]></itunes:author>"
        "<itunes:category text='&lt;script&gt;alert(19)'/>"
        f"<description><![CDATA[{NOTES}]]></description>"
        "</channel></rss>".encode(),
    )
    for number, title in enumerate(TITLES):
        url = f"https://evil.example/{number}.html"
        page = feed.asset("enclosure", url, SCRIPT.encode() + bytes([number]), "html", mime_type="text/html")
        xml = f"<item><guid>{number}</guid><description><![CDATA[{NOTES}]]></description></item>"
        feed.add(str(number), page, title=title, xml=xml)
    return feed


def plain_feed() -> MemoryFeed:
    feed = MemoryFeed(peers=2)
    feed.put_info(
        channel_assets=[
            feed.asset("image", "https://e.org/c.png", png("c", 64), "png", mime_type="image/png")
        ]
    )
    for number in range(40):
        feed.add(str(number), feed.asset("enclosure", f"https://e.org/{number}.mp3", b"x" * 100_000))
    return feed


@asynccontextmanager
async def serving(*feeds: MemoryFeed) -> AsyncIterator[str]:
    """Serves these feeds; the address of the server."""
    state = FeedState("follow", f"p2prss://k?name={SCRIPT}", 1000, Work(1, 3), f"broken {SCRIPT}")
    actions = MemoryActions(problems=[f"https://e.org: {SCRIPT}"], states={KEY: state})
    async with trio.open_nursery() as nursery:
        app = create_app(MemoryLibrary(list(feeds)), None, actions)
        addresses = await nursery.start(serve_http, app, bind_tcp("127.0.0.1", 0))
        yield f"http://127.0.0.1:{addresses[0][1]}"
        nursery.cancel_scope.cancel()


pytestmark = [pytest.mark.client, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


def pages_of(feed: MemoryFeed, items: list[str]) -> Iterator[str]:
    yield from ("/", "/add", "/add?source=%22%3E%3Cscript%3Ealert(17)%3C/script%3E", "/shows/a-show")
    yield from ("/shows/a-show/remove", f"/shows/{feed.key_text}")
    yield from (f"/shows/a-show/{item}" for item in items)


async def test_a_hostile_feed_runs_nothing() -> None:
    feed = hostile_feed()
    items = [item.item_id for item in await feed.archive.items()]
    async with serving(feed) as base:

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(f"{base}/?token={TOKEN}")
            for path in pages_of(feed, items):
                page.goto(base + path)
                for summary in page.locator("summary").all():
                    summary.click()
                page.wait_for_timeout(50)
                assert page.evaluate("typeof pwned") == "undefined", path
                assert page.evaluate("document.scripts.length") == 1, path
                assert (
                    page.evaluate("document.querySelectorAll('iframe, object, embed, base').length") == 0
                ), path
                assert page.evaluate(TOO_WIDE_BY) <= 0, path
            page.goto(f"{base}/shows/a-show")
            page.wait_for_timeout(800)  # what comes live is text as well
            assert SCRIPT in page.locator("[data-problem]").inner_text()

        await in_browser(scenario)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_fits_and_every_control_has_a_name(width: int, scheme: str) -> None:
    feed = plain_feed()
    items = [item.item_id for item in await feed.archive.items()][:1]
    async with serving(feed) as base:

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(f"{base}/?token={TOKEN}")
            for path in pages_of(feed, items):
                page.goto(base + path)
                assert page.evaluate(TOO_WIDE_BY) <= 0, path
                assert page.locator("h1").count() == 1, path
                nameless = page.evaluate(
                    "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')]"
                    ".filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length"
                    " || one.ariaHidden)).map((one) => one.outerHTML)"
                )
                assert nameless == [], path
                small = page.evaluate(
                    "(least) => [...document.querySelectorAll('main .button, button, summary, select,"
                    " .play[href], input[type=text]')].filter((one) => one.checkVisibility()"
                    " && one.getBoundingClientRect().height < least).map((one) => one.outerHTML)",
                    LEAST_TARGET,
                )
                assert small == [], path

        await in_browser(scenario, viewport={"width": width, "height": 800}, color_scheme=scheme)


async def test_the_page_can_be_used_with_the_keyboard() -> None:
    async with serving(plain_feed()) as base:

        def scenario(browser: Watched) -> None:
            page = browser.page
            page.goto(f"{base}/shows/a-show")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Skip to content"
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "main"
            page.wait_for_timeout(200)  # the jump to it is done
            reached = set()
            for _ in range(25):
                page.keyboard.press("Tab")
                reached.add(page.evaluate("document.activeElement.textContent.trim().split(' ')[0]"))
                style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert style != "none", page.evaluate("document.activeElement.outerHTML.slice(0, 300)")
            assert {"Copy", "Play", "Share", "An"} <= reached

        await in_browser(scenario)
