"""Peers that come and go, and have only a part: whoever keeps a feed waits for the rest."""

from pathlib import Path
from typing import Final

import pytest
import trio

from p2prss.crypto.key_text import parse_key
from p2prss.log.store import Store
from p2prss.net.address import Address
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.net.tcp import bound_address, open_listeners, serve_listener
from p2prss.node.duties import carry_out
from p2prss.node.events import Ready, Synced
from p2prss.node.orders import FollowOrder, PublishOrder, SeedOrder
from tests.fakes.running_node import no, node_at
from tests.interop.python_peer import until
from tests.node.test_conflict import publish_once, write

READER_PATIENCE: Final = 0.2  # seconds: how soon a reader gives up in these tests


@pytest.mark.parametrize("order", [FollowOrder, SeedOrder])
async def test_a_peer_that_has_only_the_entries_is_no_reason_to_end(
    order: type[FollowOrder | SeedOrder], tmp_path: Path
) -> None:
    """A seedbox that has just begun has a feed's entries, and no byte of its files yet."""
    source = tmp_path / "feed.xml"
    write(source, "one", "two")
    await publish_once(tmp_path / "a", source)
    async with (
        node_at(tmp_path / "a", "127.0.0.1:0") as (publisher, told),
        node_at(tmp_path / "b") as (keeper, heard),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(carry_out, publisher, PublishOrder(str(source)), no)
        key = (await told.wait(Ready)).key
        with Store.in_memory() as store:
            exchange = Exchange(store, nursery)
            log = store.open_log(parse_key(key))
            session = exchange.session(log, eager=True)
            async with trio.open_nursery() as links:
                stream = await trio.open_tcp_stream("127.0.0.1", publisher.listening[0].port)
                links.start_soon(exchange.use_stream, stream, True, "publisher")
                core = PeerCore(session)
                await core.wait_length(2)
                await core.download(0, core.length)
                links.cancel_scope.cancel()
            (listener,) = await open_listeners(Address("127.0.0.1", 0))
            nursery.start_soon(serve_listener, listener, exchange.use_stream, nursery)

            keeper.exchange.patience = READER_PATIENCE
            link = f"p2prss://{key}?peer={bound_address(listener)}"
            if order is FollowOrder:
                nursery.start_soon(carry_out, keeper, FollowOrder(link), no)
            else:
                nursery.start_soon(carry_out, keeper, SeedOrder((link,)), no)
            await until(lambda: bool(keeper.feeds))
            await keeper.feeds[0].db.wait_length(log.length)
            await keeper.feeds[0].db.download(0, log.length)
            await trio.sleep(5 * READER_PATIENCE)
            keeper.dial(publisher.listening[0])
            assert (await heard.wait(Synced)).episodes == 2
        nursery.cancel_scope.cancel()
