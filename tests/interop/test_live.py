"""What is appended on one side is known on the other within a second, also after a silence."""

import time
from collections.abc import Awaitable, Callable
from statistics import median

import pytest
import trio

from p2prss.net.core import PeerCore
from tests.conftest import StartJsPeer
from tests.interop.conftest import Meet, StartPythonPeer
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PythonPeer, until

pytestmark = pytest.mark.interop

_PATIENCE = 25  # seconds for a whole test
_LIMIT = 1.0  # seconds from the call that appends to the block's arrival on the other side
_ROUNDS = 9

Delay = Callable[[int], Awaitable[float]]  # appends block i and gives the seconds until it was there


def delay_to_theirs(own: PeerCore, theirs: JsPeer) -> Delay:
    """Seconds until the reference, which asked to be told, knows the new length."""

    async def measure(index: int) -> float:
        key = own.key.hex()
        arrived: list[float] = []

        async def wait() -> None:
            arrived.append(await theirs.wait_length(key, index + 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            sent_at = time.time()
            await own.append([b"%d" % index])
        assert await theirs.get(key, index) == b"%d" % index
        return arrived[0] - sent_at

    return measure


def delay_to_ours(copy: PeerCore, theirs: JsPeer) -> Delay:
    """Seconds until we hold the new block, with all that it takes to ask the reference to append it."""

    async def measure(index: int) -> float:
        arrived: list[float] = []

        async def wait() -> None:
            await copy.wait_length(index + 1)
            await copy.get(index)
            arrived.append(time.time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            sent_at = time.time()
            await theirs.append(copy.key.hex(), [b"%d" % index])
        return arrived[0] - sent_at

    return measure


async def both_ways(ours: PythonPeer, theirs: JsPeer) -> dict[str, Delay]:
    """One core of each side with one block, open on the other side; still without a connection."""
    own = ours.own_core()
    await own.append([b"0"])
    await theirs.open_core(key=own.key.hex())
    key = (await theirs.open_core(name="theirs")).key
    await theirs.append(key, [b"0"])
    copy = ours.core(key)
    copy.follow_tip()
    return {"to theirs": delay_to_theirs(own, theirs), "to ours": delay_to_ours(copy, theirs)}


async def test_what_is_appended_is_there_within_a_second(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        measures = await both_ways(ours, theirs)
        await meet(ours, theirs)
        await until(lambda: bool(ours.exchange.links))
        for direction, measure in measures.items():
            delays = [await measure(index) for index in range(1, 1 + _ROUNDS)]
            print(f"{direction}: {1000 * median(delays):.1f} ms")  # shown by pytest -s
            assert median(delays) < _LIMIT


async def test_a_silence_delays_nothing(js_peer: StartJsPeer, python_peer: StartPythonPeer) -> None:
    """Silence: until we have sent nothing for so long that a sign of life was due."""
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        measures = await both_ways(ours, theirs)
        await theirs.connect(await ours.listen())
        for measure in measures.values():
            await measure(1)
        (link,) = ours.exchange.links
        await until(lambda: not link.queued_bytes)
        before = link.bytes_sent
        await until(lambda: link.bytes_sent > before)
        for direction, measure in measures.items():
            delay = await measure(2)
            print(f"{direction}: {1000 * delay:.1f} ms")
            assert delay < _LIMIT
