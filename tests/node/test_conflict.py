"""A publisher's home that was copied and used in both places: whoever follows the show is told."""

import shutil
from pathlib import Path

import pytest
import trio

from p2prss.errors import ConflictError
from p2prss.log.log import FROZEN
from p2prss.node.duties import carry_out
from p2prss.node.events import Error, Published, Synced
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import feed_status
from p2prss.node.node import Node
from p2prss.node.orders import FollowOrder, PublishOrder, SeedOrder
from tests.fakes.running_node import no, node_at


def write(source: Path, *titles: str) -> None:
    items = "".join(f"<item><guid>{title}</guid><title>{title}</title></item>" for title in titles)
    source.write_text(f"<rss><channel><title>Show</title>{items}</channel></rss>")


async def publish_until_told(node: Node, source: Path) -> None:
    """A publisher, who may hear of the other version too, and then ends."""
    try:
        await carry_out(node, PublishOrder(str(source)), no)
    except* ConflictError:
        pass


async def publish_once(home: Path, source: Path) -> None:
    async with node_at(home) as (node, _):
        await carry_out(node, PublishOrder(str(source), once=True), no)


async def test_followers_and_seeders_are_told_and_keep_what_they_have(tmp_path: Path) -> None:
    source, homes = tmp_path / "feed.xml", [tmp_path / "one", tmp_path / "two"]
    write(source, "first")
    await publish_once(homes[0], source)
    shutil.copytree(homes[0], homes[1], ignore=shutil.ignore_patterns("lock", "*.sock"))
    write(source, "first", "of one")
    await publish_once(homes[0], source)
    reader = tmp_path / "reader"
    async with (
        node_at(homes[0], "127.0.0.1:0") as (one, _),
        node_at(reader) as (follower, heard),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(publish_until_told, one, source)
        feed = one.saved.all()[0]
        link = f"p2prss://{feed.key}?peer={one.listening[0]}"
        nursery.start_soon(carry_out, follower, FollowOrder(link), no)
        assert (await heard.wait(Synced)).episodes == 2
        write(source, "first", "of two", "of two again")
        async with node_at(homes[1], "127.0.0.1:0") as (two, told):
            nursery.start_soon(publish_until_told, two, source)
            await told.wait(Published)
            follower.dial(two.listening[0])
            error = await heard.wait(Error)
            assert (error.code, error.key) == (4, feed.key)
            assert error.message == f"Show: {FROZEN}"
            nursery.cancel_scope.cancel()
    (status,) = await feed_status(HomePaths(reader), None)
    assert (status.problem, status.episodes) == (FROZEN, 2)
    async with node_at(reader) as (again, heard):
        with pytest.raises(BaseExceptionGroup) as caught:
            await carry_out(again, FollowOrder(feed.key, once=True), no)
        assert caught.group_contains(ConflictError)
    async with node_at(reader) as (again, heard), trio.open_nursery() as nursery:
        nursery.start_soon(carry_out, again, SeedOrder((feed.key,)), no)
        assert (await heard.wait(Error)).code == 4
        nursery.cancel_scope.cancel()
