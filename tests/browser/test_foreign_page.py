"""A page of another server on this very computer, in a browser that was let in, changes and reads nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse

from p2prss.serve.app import create_app, make_starlette
from p2prss.serve.feed_routes import reading
from p2prss.serve.server import bind_tcp, serve_http
from tests.browser.browser import CHROMIUM, Watched, in_browser
from tests.fakes.memory_actions import TOKEN, MemoryActions
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary

SCRIPT: Final = """
async (base) => {
  const learned = [];
  const attempt = async (name, act) => {
    try { if (await act()) learned.push(name); } catch { /* refused */ }
  };
  const paths = ["/", "/add", "/events", "/opml.xml", "/everything.xml", "/api/v1/feeds"];
  for (const path of [...paths, "/feeds/a-show/feed.xml", "/shows/a-show"])
    for (const credentials of ["include", "omit"])
      await attempt(`read ${path}`, async () => (await fetch(base + path, { credentials })).text());
  for (const [path, type] of [["/add", "application/x-www-form-urlencoded"], ["/api/v1/feeds", "text/plain"]])
    for (const mode of ["cors", "no-cors"])
      await attempt(`post ${path}`, async () => (await fetch(base + path, {
        method: "POST", mode, credentials: "include", headers: { "content-type": type },
        body: type === "text/plain" ? '{"source":"k"}' : "source=k&latest=3&form=" + "0".repeat(64),
      })).status);
  await attempt("events", () => new Promise((resolve) => {
    const source = new EventSource(base + "/events", { withCredentials: true });
    source.onopen = () => resolve(true);
    source.onerror = () => resolve(false);
  }));
  for (const [kind, path] of [["img", "/feeds/a-show/qr.svg"], ["script", "/static/page.js"]])
    await attempt(`embed ${path}`, () => new Promise((resolve) => {
      const element = document.createElement(kind);
      element.onload = () => resolve(true);
      element.onerror = () => resolve(false);
      element.src = base + path;
      document.body.append(element);
    }));
  const frame = document.createElement("iframe");
  frame.src = base + "/";
  document.body.append(frame);
  await new Promise((resolve) => { frame.onload = resolve; setTimeout(resolve, 3000); });
  await attempt("frame", () => frame.contentDocument?.querySelector("main"));
  await attempt("frames", () => frame.contentWindow.length || frame.contentWindow.document.body.textContent);
  return learned;
}
"""

pytestmark = [pytest.mark.client, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


@asynccontextmanager
async def ours_and_theirs(actions: MemoryActions) -> AsyncIterator[tuple[str, str]]:
    """Our server and another one; their addresses."""

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>theirs</title><body>")

    async with trio.open_nursery() as nursery:
        bases = []
        ours = create_app(MemoryLibrary([MemoryFeed()]), None, actions)
        for app in (ours, make_starlette([reading("/", page)])):
            addresses = await nursery.start(serve_http, app, bind_tcp("127.0.0.1", 0))
            bases.append(f"http://127.0.0.1:{addresses[0][1]}")
        yield bases[0], bases[1]
        nursery.cancel_scope.cancel()


async def test_a_page_of_another_server_changes_and_reads_nothing() -> None:
    actions = MemoryActions()
    async with ours_and_theirs(actions) as (ours, theirs):

        def scenario(browser: Watched) -> None:
            browser.expected = ("",)  # the console is full of what was refused
            page = browser.page
            page.goto(f"{ours}/?token={TOKEN}")
            assert browser.context.cookies()
            page.goto(theirs)
            # An answer to "no-cors" cannot be read: its status is 0, so it is not in the list.
            assert page.evaluate(SCRIPT, ours) == []
            page.set_content(
                f'<form method="post" action="{ours}/shows/a-show/remove"><input name="form" value="0">'
                "<button>Win</button></form>"
            )
            page.get_by_role("button").click()
            page.get_by_role("heading", name="This was not done").wait_for()

        await in_browser(scenario, hosts=2)
    assert actions.added == []
    assert actions.removed == []


async def test_a_link_elsewhere_lets_in_as_well() -> None:
    async with ours_and_theirs(MemoryActions()) as (ours, theirs):

        def scenario(browser: Watched) -> None:
            browser.expected = ("Failed to load resource",)  # their icon
            page = browser.page
            page.goto(theirs.replace("127.0.0.1", "localhost"))  # another site, not only another server
            page.set_content(f'<a href="{ours}/?token={TOKEN}">in</a>')
            page.get_by_role("link").click()
            page.wait_for_url(f"{ours}/")
            assert "You are looking on" not in page.locator("footer").inner_text()

        await in_browser(scenario, hosts=2)
