"""A source that only some may read is published only by those who say so."""

from pathlib import Path

import pytest

from p2prss.errors import UsageError
from p2prss.node.events import Event, Notice, Published
from p2prss.node.node import run_order
from p2prss.node.orders import PublishOrder
from p2prss.node.settings import NodeSettings
from tests.fakes.quiet_origin import QuietOrigin

FEED = "<rss><channel><title>Mine</title>{}</channel></rss>"
ITEM = "<item><guid>{0}</guid><link>https://a.example/{0}?auth=geheim</link></item>"


async def no(_: str) -> bool:
    return False


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings.of(home=tmp_path / "home", no_http=True, lan=False)


async def test_it_is_refused_before_a_home_is_made(tmp_path: Path, settings: NodeSettings) -> None:
    for source in ("https://ada:geheim@a.example/feed", "https://a.example/feed?auth=geheim"):
        with pytest.raises(UsageError, match="--allow-private") as caught:
            await run_order(settings, PublishOrder(source), lambda _: None, no)
        assert "geheim" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "home").exists()


async def test_it_is_published_as_it_is_with_a_word_of_warning(
    tmp_path: Path, settings: NodeSettings
) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/feed.xml").write_text(FEED.format(ITEM.format(1) + ITEM.format(2)))
    told: list[Event] = []
    with QuietOrigin(tmp_path / "o") as origin:
        order = PublishOrder(f"{origin.feed_url}?auth=geheim", once=True, allow_private=True)
        await run_order(settings, order, told.append, no)
    assert [event.episodes for event in told if isinstance(event, Published)] == [2]
    (notice,) = (event for event in told if isinstance(event, Notice) and not event.level)
    assert "in 2 of the feed's texts" in notice.message
    assert "geheim" not in notice.message
