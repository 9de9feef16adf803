"""A feed that its publisher has locked is announced only with their leave, or by themselves."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from p2prss.node.events import Event, Notice, Published, Ready
from p2prss.node.node import open_node, run_order
from p2prss.node.orders import PublishOrder
from p2prss.node.publishing import publish_feed
from p2prss.node.settings import NodeSettings

NAMESPACE = 'xmlns:podcast="https://podcastindex.org/namespace/1.0"'
FEED = f"<rss {NAMESPACE}><channel><title>Mine</title>{{}}<item><guid>1</guid></item></channel></rss>"
LOCKED = '<podcast:locked owner="ada@a.example">yes</podcast:locked>'


async def no(_: str) -> bool:
    return False


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings.of(home=tmp_path / "home", no_http=True)


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], str]:
    def write(inside: str) -> str:
        path = tmp_path / "feed.xml"
        path.write_text(FEED.format(inside))
        return str(path)

    return write


async def publish(settings: NodeSettings, order: PublishOrder) -> list[Event]:
    told: list[Event] = []
    await run_order(settings, order, told.append, no)
    assert any(isinstance(event, Published) for event in told)
    return told


class Nowhere:
    """A local network that notes what is announced there."""

    def __init__(self) -> None:
        self.feeds: set[bytes] = set()

    def add(self, topic: bytes) -> None:
        self.feeds.add(topic)

    def discard(self, topic: bytes) -> None:
        self.feeds.discard(topic)


async def announced(
    settings: NodeSettings, order: PublishOrder, confirm: Callable[[str], Awaitable[bool]] = no
) -> tuple[bool, list[Event]]:
    """Whether a feed is announced once it was published, and what was told."""
    told: list[Event] = []
    lan = Nowhere()
    async with open_node(settings, told.append, with_http=False) as node:
        node.lan = cast(Any, lan)
        await publish_feed(node, order, confirm)
    assert any(isinstance(event, Published) for event in told)
    return bool(lan.feeds), told


def notices(told: list[Event]) -> list[str]:
    return [event.message for event in told if isinstance(event, Notice)]


@pytest.mark.parametrize("inside", [LOCKED, "<podcast:block>yes</podcast:block>"])
async def test_a_locked_feed_is_mirrored_and_announced_nowhere(
    settings: NodeSettings, source: Callable[[str], str], inside: str
) -> None:
    order = PublishOrder(source(inside), once=True)
    is_announced, told = await announced(settings, order)
    assert not is_announced
    (message,) = [one for one in notices(told) if "announced nowhere" in one]
    assert "--allow-locked" in message
    assert ("ada@a.example" in message) == (inside is LOCKED)
    assert not (await announced(settings, order))[0]
    # Its publisher puts the key into the feed, as they were told: now it is theirs, and announced.
    proof = message.partition("put ")[2].partition(" into it")[0]
    is_announced, told = await announced(settings, PublishOrder(source(inside + proof), once=True))
    assert is_announced
    (ready,) = (event for event in told if isinstance(event, Ready))
    assert ready.key in proof
    assert any("publisher's own" in one for one in notices(told))
    # And no more when it is gone from there.
    assert not (await announced(settings, PublishOrder(source(inside), once=True)))[0]


async def test_leave_once_given_is_remembered(settings: NodeSettings, source: Callable[[str], str]) -> None:
    allowed = PublishOrder(source(LOCKED), once=True, allow_locked=True)
    assert (await announced(settings, allowed))[0]
    assert (await announced(settings, PublishOrder(source(LOCKED), once=True)))[0]


async def test_a_person_may_say_yes(settings: NodeSettings, source: Callable[[str], str]) -> None:
    asked: list[str] = []

    async def yes(question: str) -> bool:
        asked.append(question)
        return True

    order = PublishOrder(source(LOCKED), once=True)
    assert (await announced(settings, order, yes))[0]
    (question,) = asked
    assert "podcast:locked" in question
    assert (await announced(settings, order))[0]


async def test_a_feed_becomes_locked(settings: NodeSettings, source: Callable[[str], str]) -> None:
    assert (await announced(settings, PublishOrder(source(""), once=True)))[0]
    assert not (await announced(settings, PublishOrder(source(LOCKED), once=True)))[0]


async def test_an_unlisted_feed_is_announced_nowhere(
    settings: NodeSettings, source: Callable[[str], str]
) -> None:
    path = source("")
    for unlisted, is_announced in ((True, False), (None, False), (False, True), (None, True)):
        order = PublishOrder(path, once=True, unlisted=unlisted)
        assert (await announced(settings, order))[0] is is_announced
    forgets = PublishOrder(path, once=True, unlisted=True, forget_options=True)
    assert not (await announced(settings, forgets))[0]
    is_announced, told = await announced(settings, PublishOrder(path, once=True, forget_options=True))
    assert not is_announced
    assert any("--listed" in one for one in notices(told))


async def test_a_locked_feed_that_was_unlisted_is_not_announced_by_listing_it(
    settings: NodeSettings, source: Callable[[str], str]
) -> None:
    """Nothing was asked while there was nothing to announce, so nobody has given leave."""
    path = source(LOCKED)
    _, told = await announced(settings, PublishOrder(path, once=True, unlisted=True))
    assert not any("locked" in one for one in notices(told))
    is_announced, told = await announced(settings, PublishOrder(path, once=True, unlisted=False))
    assert not is_announced
    assert any("--allow-locked" in one for one in notices(told))
    # The source has not changed, and still the leave counts at once.
    assert (await announced(settings, PublishOrder(path, once=True, allow_locked=True)))[0]


async def test_somebody_elses_own_feed_is_named(settings: NodeSettings, source: Callable[[str], str]) -> None:
    theirs = bytes(range(32)).hex()
    told = await publish(
        settings, PublishOrder(source(f'<podcast:txt purpose="p2prss">{theirs}</podcast:txt>'), once=True)
    )
    assert any("a feed of their own" in event.message for event in told if isinstance(event, Notice))
