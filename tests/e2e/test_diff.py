"""``diff``: what the served feed has changed, and that nothing else is."""

from collections import Counter
from pathlib import Path

from tests.e2e.program import run
from tests.e2e.show import Show

SLUG = "the-copper-compass"
FEEDS = Path(__file__).parents[1] / "feeds"


async def test_a_mirrored_show_differs_by_the_rules_and_an_edit_is_seen(
    local_show: Show, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    await run("publish", local_show.feed, "--once", home=home)
    told = (await run("diff", SLUG, home=home)).lines
    rules = Counter(one["rule"] for one in told)
    assert rules["captured"] >= 4
    assert rules["edition"] == 4
    assert rules["changed"] == 0
    assert [one["rule"] for one in (await run("diff", SLUG, "--fetch", home=home)).lines] == [
        one["rule"] for one in told
    ]
    local_show.feed.write_text(local_show.feed.read_text().replace("<item>", "<item><new/>", 1))
    changed = [
        one for one in (await run("diff", SLUG, "--fetch", home=home)).lines if one["rule"] == "changed"
    ]
    assert [(one["element"], one["served"]) for one in changed] == [("new", None)]
    person = await run("diff", SLUG, home=home, as_json=False)
    assert len(person.stdout.splitlines()) == len(told)


async def test_what_was_mended_is_told_and_a_degraded_feed_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await run("publish", FEEDS / "incomplete-cdata.xml", "--once", "--latest", "0", home=home)
    (status,) = (await run("status", home=home)).lines
    assert status["degraded"]
    told = (await run("diff", status["key"], home=home)).lines
    assert any(one["rule"] == "format" and "degraded" in one["served"] for one in told)
    fetched = (await run("diff", status["key"], "--fetch", home=home)).lines
    assert any(one["rule"] == "format" and "the end was missing" in one["served"] for one in fetched)


async def test_a_feed_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    finished = await run("diff", "nothing", home=tmp_path / "home", code=2)
    assert "nothing" in finished.error
