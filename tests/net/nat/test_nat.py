"""Peers of both implementations reach each other through NATs, on the simulated internet."""

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.net.nat.bed import RELAY_HOST, Bed, BedMissing, PeerError, open_bed

pytestmark = [pytest.mark.netns, pytest.mark.interop]

FAST_SECONDS = 0.9  # from dialling to a proven peer, when nobody has to wait a second for anything
PAIRS = [("p2prss", "p2prss"), ("p2prss", "js"), ("js", "p2prss")]
BOTH = pytest.mark.parametrize(("client", "server"), PAIRS)


@asynccontextmanager
async def bed_or_skip(kinds: Sequence[str], **weather: float) -> AsyncIterator[Bed]:
    """A machine that can't is no reason to fail, unless it is the one that must."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            bed = await stack.enter_async_context(open_bed(kinds, **weather))  # type: ignore[arg-type]
        except BedMissing as error:
            if os.environ.get("CI", "").lower() in ("true", "1"):
                pytest.fail(f"no simulated internet: {error}")
            pytest.skip(f"no simulated internet: {error}")
        await stack.enter_async_context(bed.public_dht())
        yield bed


async def dial(
    bed: Bed, client: str, client_kind: str, server: str, server_kind: str, *, relay: str | None = None
) -> dict[str, Any]:
    """Connect one with the other. Raises: PeerError."""
    async with (
        bed.peer(server, f"server-{server_kind}") as listener,
        bed.peer(client, f"client-{client_kind}", relay=relay) as dialler,
    ):
        listening = await listener.call("listen")
        done: dict[str, Any] = await dialler.call("connect", key=listening["key"])
        return done


@BOTH
async def test_steady_nats_are_punched_without_delay(client: str, server: str) -> None:
    async with bed_or_skip(["steady"]) as bed:
        done = await dial(bed, client, "steady", server, "steady")
        print(done)
        assert done["remote"].startswith("5.3.")
        assert done["seconds"] < FAST_SECONDS


@pytest.mark.slow
@BOTH
async def test_firewalls_double_nats_and_open_hosts_are_reached(client: str, server: str) -> None:
    async with bed_or_skip(["open", "firewall", "double"]) as bed:
        for kinds in (
            ("open", "firewall"),
            ("firewall", "open"),
            ("firewall", "firewall"),
            ("double", "double"),
        ):
            done = await dial(bed, client, kinds[0], server, kinds[1])
            print(*kinds, done)
            assert done["seconds"] < FAST_SECONDS


@pytest.mark.slow
@BOTH
async def test_one_random_nat_is_punched_by_guessing(client: str, server: str) -> None:
    async with bed_or_skip(["steady", "random"]) as bed:
        for kinds in (("steady", "random"), ("random", "steady")):
            print(*kinds, await dial(bed, client, kinds[0], server, kinds[1]))


@BOTH
async def test_two_random_nats_are_told_apart_quickly(client: str, server: str) -> None:
    async with bed_or_skip(["random"]) as bed:
        with pytest.raises(PeerError, match=r"double-random|HOLEPUNCH"):
            await dial(bed, client, "random", server, "random")


@pytest.mark.slow
@BOTH
async def test_lost_and_reordered_packets_only_cost_time(client: str, server: str) -> None:
    async with bed_or_skip(["steady"], loss=0.1, jitter=0.05, seed=3) as bed:
        print(await dial(bed, client, "steady", server, "steady"))
        assert (await bed.statistics())["lost"] > 0


@pytest.mark.slow
@BOTH
async def test_two_random_nats_meet_at_a_blind_relay(client: str, server: str) -> None:
    async with bed_or_skip(["random"]) as bed, bed.blind_relay() as relay:
        done = await dial(bed, client, "random", server, "random", relay=relay)
        print(done)
        assert done["remote"].startswith(RELAY_HOST)
