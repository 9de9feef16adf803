"""What was asked for holds until something else is; what a command changes for a feed is told."""

from pathlib import Path

import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import NoPeersError
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.node.duties import carry_out
from p2prss.node.events import Notice
from p2prss.node.node import open_node
from p2prss.node.orders import DEFAULT_LATEST, FollowOrder, Order, PublishOrder, SeedOrder, Wanted
from p2prss.node.saved_feeds import Role, SavedFeed
from p2prss.node.settings import NodeSettings
from tests.fakes.running_node import no

KEY = format_key(CoreKey(bytes(range(32))))
ALL, NEWEST = (None, None), (DEFAULT_LATEST, None)


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings.of(home=tmp_path / "home", no_http=True)


async def saved_by(settings: NodeSettings, order: Order) -> tuple[SavedFeed, list[str]]:
    """What is saved of the one feed of a home after an order, and what was told."""
    told: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, Notice) and event.level == 0:
            told.append(event.message)

    async with open_node(settings, hear, with_http=False) as node:
        try:
            await carry_out(node, order, no)
        except* NoPeersError:
            assert not isinstance(order, PublishOrder)
        (saved,) = node.saved.all()
    return saved, told


def follow(wanted: Wanted | None = None) -> FollowOrder:
    """Ends soon, as nobody has that feed."""
    return FollowOrder(KEY, once=True, wanted=wanted, patience=0.1)


async def test_a_follower_keeps_what_it_was_asked_to_keep(settings: NodeSettings) -> None:
    for wanted, expected in (
        (None, NEWEST),
        (Wanted(), ALL),
        (None, ALL),
        (Wanted(latest=0), (0, None)),
        (None, (0, None)),
    ):
        saved, told = await saved_by(settings, follow(wanted))
        assert (saved.latest, saved.since) == expected
        assert not any("until now" in one for one in told)


async def test_a_feed_that_is_kept_in_another_way_is_told(settings: NodeSettings) -> None:
    await saved_by(settings, follow(Wanted(latest=7)))
    saved, told = await saved_by(settings, SeedOrder((KEY,), once=True, patience=0.1))
    assert saved.role is Role.SEED
    assert any("served to podcast apps no longer" in one and "--all" in one for one in told)
    saved, told = await saved_by(settings, follow())
    assert (saved.role, saved.latest) == (Role.FOLLOW, DEFAULT_LATEST)
    assert any("all of it was kept until now" in one for one in told)


async def test_a_name_given_later_counts_and_can_be_taken_back(
    settings: NodeSettings, tmp_path: Path
) -> None:
    source = str(await trio.to_thread.run_sync(make_demo_show, tmp_path))
    first, told = await saved_by(settings, PublishOrder(source, once=True))
    assert not told
    named, told = await saved_by(settings, PublishOrder(source, once=True, name="Another"))
    assert (named.label, named.slug) == ("Another", first.slug)
    assert any(first.slug in one for one in told)
    assert (await saved_by(settings, PublishOrder(source, once=True)))[0].label == "Another"
    assert (await saved_by(settings, PublishOrder(source, once=True, name="")))[0].label == first.label


async def test_it_is_told_that_more_or_less_is_mirrored_than_before(
    settings: NodeSettings, tmp_path: Path
) -> None:
    source = str(await trio.to_thread.run_sync(make_demo_show, tmp_path))
    _, told = await saved_by(settings, PublishOrder(source, once=True, wanted=Wanted(latest=1)))
    assert not told
    _, told = await saved_by(settings, PublishOrder(source, once=True, wanted=Wanted()))
    assert any("--latest 1" in one for one in told)
    _, told = await saved_by(settings, PublishOrder(source, once=True))
    assert not told
