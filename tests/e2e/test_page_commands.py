"""``page`` and ``up`` as a user meets them: what is added on the page is there after a restart."""

import re
from pathlib import Path

import httpx

from tests.e2e.program import Program, Start, run
from tests.e2e.show import Show

SMALL_WAIT = 20.0


async def page_address(home: Path) -> str:
    return str((await run("page", home=home)).lines[0]["page"])


async def add(home: Path, source: str) -> str:
    """Add a feed as a browser does, by the form. Returns: its key."""
    address = await page_address(home)
    base = address.partition("?")[0]
    async with httpx.AsyncClient(trust_env=False, timeout=SMALL_WAIT, base_url=base) as client:
        assert (await client.get(address)).status_code == 303
        found = re.search(r'name="form" value="([0-9a-f]{64})"', (await client.get("add")).text)
        assert found is not None
        form = {"source": source, "latest": "all", "form": found[1]}
        reply = await client.post("add", data=form, headers={"origin": base.rstrip("/")})
        assert reply.status_code == 303, reply.text
        return reply.headers["location"].removeprefix("shows/")


def says_nothing_of(token: str, program: Program) -> bool:
    return token not in program.stderr and not any(token in str(line) for line in program.lines)


async def test_what_was_added_on_the_page_runs_again_after_a_restart(
    local_show: Show, start: Start, tmp_path: Path
) -> None:
    publisher = await start("publish", local_show.feed, "--listen", "127.0.0.1:0", home=tmp_path / "a")
    link = (await publisher.event("ready"))["link"]
    await publisher.event("published")
    home = tmp_path / "b"
    node = await start("up", "--http", "127.0.0.1:0", home=home)
    await node.event("notice")
    key = await add(home, link)
    assert link.startswith(f"p2prss://{key}")
    await node.event("synced", key=key, episodes=local_show.spec.episodes)
    token = (await page_address(home)).partition("token=")[2]
    assert says_nothing_of(token, node)
    await node.stop()

    node = await start("up", "--http", "127.0.0.1:0", home=home)
    ready = await node.event("ready", key=key)
    assert ready["feed_url"].startswith(ready["http"])
    await node.event("synced", key=key)
    assert (await page_address(home)).partition("token=")[2] == token


async def test_a_feed_that_is_removed_does_not_end_the_program_that_follows_it(
    local_show: Show, start: Start, tmp_path: Path
) -> None:
    publisher = await start("publish", local_show.feed, "--listen", "127.0.0.1:0", home=tmp_path / "a")
    link = (await publisher.event("ready"))["link"]
    await publisher.event("published")
    home = tmp_path / "b"
    node = await start("follow", link, "--http", "127.0.0.1:0", home=home)
    ready = await node.event("ready")
    await node.event("synced")
    headers = {"authorization": f"Bearer {(await page_address(home)).partition('token=')[2]}"}
    async with httpx.AsyncClient(trust_env=False, timeout=SMALL_WAIT, base_url=ready["http"]) as client:
        reply = await client.post(f"/api/v1/feeds/{ready['key']}/remove", headers=headers)
        assert reply.json() == {"removed": ready["key"]}
        assert (await client.get(ready["feed_url"])).status_code == 404
        assert (await client.get("/api/v1/feeds", headers=headers)).json() == {"feeds": []}
        assert (await client.get("/")).status_code == 200
    assert (await run("list", home=home)).lines == []
    assert await add(home, link) == ready["key"]
    await node.event("synced")


async def test_a_page_needs_a_node_that_serves_it(local_show: Show, start: Start, tmp_path: Path) -> None:
    home = tmp_path / "a"
    publisher = await start("publish", local_show.feed, "--no-http", home=home)
    await publisher.event("published")
    finished = await run("page", home=home, code=1, as_json=False)
    assert "--no-http" in finished.error
    await publisher.stop()
    finished = await run("page", home=home, code=1, as_json=False)
    assert "no node runs" in finished.error


async def test_opening_the_page_shows_the_token_to_nobody(start: Start, tmp_path: Path) -> None:
    node = await start("up", "--http", "127.0.0.1:0", home=tmp_path / "home")
    await node.event("notice")
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$@" > {opened}.new; mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    done = await run("page", "--open", home=tmp_path / "home", environ={"BROWSER": str(browser)})
    token = str(done.lines[0]["page"]).partition("token=")[2]
    address = opened.read_text().strip()
    assert len(token) == 43
    assert token not in address
    async with httpx.AsyncClient(trust_env=False, timeout=SMALL_WAIT) as client:
        assert (await client.get(address)).status_code == 303
        assert "<form" in (await client.get(address.partition("?")[0] + "add")).text
        assert (await client.get(address)).status_code == 403  # a second time
