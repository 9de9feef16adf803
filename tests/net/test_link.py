"""One connection between two stores, by the clock."""

import contextlib
from random import Random

import trio
from trio.testing import MockClock, memory_stream_pair

from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.log.store import Store
from p2prss.net.exchange import Exchange
from p2prss.wire.connection import KEEP_ALIVE_SECONDS


async def test_a_sign_of_life_goes_out_after_each_silence_the_first_one_too(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    streams = memory_stream_pair()
    exchanges = [Exchange(Store.in_memory(), nursery, random=Random(number)) for number in range(2)]

    async def run(exchange: Exchange, stream: trio.abc.Stream, initiator: bool) -> None:
        with contextlib.suppress(NetworkError, RemoteProtocolError):
            await exchange.use_stream(stream, initiator, "peer")

    for exchange, stream in zip(exchanges, streams, strict=True):
        nursery.start_soon(run, exchange, stream, stream is streams[0])
    await trio.sleep(0.1)
    for exchange in exchanges:
        (link,) = exchange.links
        for _ in range(3):
            sent = link.bytes_sent
            with trio.fail_after(KEEP_ALIVE_SECONDS + 0.1):
                while link.bytes_sent == sent:  # noqa: ASYNC110 - a counter
                    await trio.sleep(0.05)
    nursery.cancel_scope.cancel()
