"""What a node is told to do, handed to whoever does it."""

from typing import TYPE_CHECKING

from p2prss.errors import UsageError
from p2prss.node.feed_lookup import is_address
from p2prss.node.keeping import follow, seed
from p2prss.node.link_text import FeedLink
from p2prss.node.orders import FollowOrder, ImportOrder, Order, PublishOrder, SeedOrder, UpOrder
from p2prss.node.publisher import Confirm
from p2prss.node.publishing import publish_feed, source_of
from p2prss.node.subscriptions import library_of, publish_library, run_import

if TYPE_CHECKING:
    from p2prss.node.node import Node


async def carry_out(node: "Node", order: Order, confirm: Confirm) -> None:
    """Do it until it is done, or for ever.

    Raises: UsageError, and whatever the order meets that it can't get over.
    """
    match order:
        case PublishOrder():
            await publish(node, order, confirm)
        case FollowOrder():
            await follow(node, order)
        case SeedOrder():
            await seed(node, order)
        case ImportOrder():
            await run_import(node, order, confirm)
        case UpOrder():
            await node.actions.run_saved()


async def publish(node: "Node", order: PublishOrder, confirm: Confirm) -> None:
    """Mirror a source, for ever or ``once``; of a list of feeds, each.

    Raises: as ``publish_feed``.
    """
    feeds = await library_of(source_of(order))
    if feeds is not None:
        if order.feed is not None:
            raise UsageError("--feed is for a source that is one feed, and this is a list of several")
        await publish_library(node, order, feeds, confirm)
    else:
        await publish_feed(node, order, confirm)


def check_order(order: Order) -> None:
    """What can be seen to be wrong before a home is made for it. Raises: UsageError."""
    match order:
        case PublishOrder():
            source_of(order)
        case FollowOrder():
            if not is_address(order.feed):
                FeedLink.parse(order.feed)
        case SeedOrder():
            for text in order.feeds:
                FeedLink.parse(text)
