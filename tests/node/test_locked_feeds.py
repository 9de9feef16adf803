"""A feed that its publisher has locked is published only with their leave, or by themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from p2prss.errors import LockedFeedError
from p2prss.node.duties import carry_out
from p2prss.node.events import Event, Notice, Published, Ready
from p2prss.node.node import open_node, run_order
from p2prss.node.orders import PublishOrder
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


@pytest.mark.parametrize("inside", [LOCKED, "<podcast:block>yes</podcast:block>"])
async def test_it_is_refused_with_the_ways_out(
    settings: NodeSettings, source: Callable[[str], str], inside: str
) -> None:
    message = ""
    try:
        await run_order(settings, PublishOrder(source(inside), once=True), lambda _: None, no)
    except* LockedFeedError as errors:
        message = str(errors.exceptions[0])
    assert "--allow-locked" in message
    assert "--unlisted" in message
    assert "\n" not in message
    assert ("ada@a.example" in message) == (inside is LOCKED)
    # Its publisher puts the key into the feed, as they were told, and publishes it.
    proof = message.partition("put ")[2].partition(" into it")[0]
    told = await publish(settings, PublishOrder(source(inside + proof), once=True))
    (ready,) = (event for event in told if isinstance(event, Ready))
    assert ready.key in proof
    assert any("publisher's own" in event.message for event in told if isinstance(event, Notice))


async def test_with_leave_it_is_published(settings: NodeSettings, source: Callable[[str], str]) -> None:
    await publish(settings, PublishOrder(source(LOCKED), once=True, allow_locked=True))


async def test_one_person_may_say_yes(settings: NodeSettings, source: Callable[[str], str]) -> None:
    asked: list[str] = []

    async def yes(question: str) -> bool:
        asked.append(question)
        return True

    await run_order(settings, PublishOrder(source(LOCKED), once=True), lambda _: None, yes)
    (question,) = asked
    assert "podcast:locked" in question


async def test_an_unlisted_feed_is_announced_nowhere(
    settings: NodeSettings, source: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere:
        def __init__(self) -> None:
            self.added: list[bytes] = []

        def add(self, topic: bytes) -> None:
            self.added.append(topic)

    for unlisted in (True, False):
        lan = Nowhere()
        async with open_node(settings, lambda _: None, with_http=False) as node:
            monkeypatch.setattr(node, "lan", lan)
            await carry_out(
                node, PublishOrder(source(LOCKED), once=True, unlisted=unlisted, allow_locked=True), no
            )
            assert bool(lan.added) is not unlisted


async def test_somebody_elses_own_feed_is_named(settings: NodeSettings, source: Callable[[str], str]) -> None:
    theirs = bytes(range(32)).hex()
    told = await publish(
        settings, PublishOrder(source(f'<podcast:txt purpose="p2prss">{theirs}</podcast:txt>'), once=True)
    )
    assert any("a feed of their own" in event.message for event in told if isinstance(event, Notice))
