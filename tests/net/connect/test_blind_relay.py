"""Two of our peers meet at a blind relay of the JavaScript reference; who proposes what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2prss.crypto.keys import PublicKey
from p2prss.net.connect.blind_relay import BlindRelays, Meeting, agree, propose
from p2prss.net.connect.network import PeerNetwork
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.trio_stream import UdxTrioStream
from tests.net.connect.our_net import HOST, key, our_dht, our_peer
from tests.net.nat.bed import PEER_JS, talk

RELAY = key(9).public_key
PATIENCE = 20  # seconds


def test_the_servers_proposal_goes_before_the_clients() -> None:
    mine, theirs = propose(RELAY), propose(key(8).public_key)
    assert mine.token != theirs.token
    both = agree(client=mine, server=theirs, is_server=False)
    assert both == Meeting(key(8).public_key, theirs.token, False)
    assert agree(client=mine, server=theirs, is_server=True) == Meeting(key(8).public_key, theirs.token, True)
    assert agree(client=mine, server=None, is_server=False) == Meeting(RELAY, mine.token, True)
    assert agree(client=mine, server=None, is_server=True) == Meeting(RELAY, mine.token, False)
    assert agree(client=None, server=None, is_server=True) is None


async def test_a_relay_that_is_not_there_is_a_reason_to_give_up() -> None:
    async def dial(_key: PublicKey) -> PeerStream:
        raise ConnectError("not-found")

    async with UdxEndpoint.open() as udx, BlindRelays.open(key(1), dial) as relays:
        stream = udx.create_stream()
        with pytest.raises(ConnectError, match="relay"):
            await relays.meet(Meeting(RELAY, bytes(32), True), stream)
        assert len(relays) == 0


@asynccontextmanager
async def a_js_relay_and_two_of_us() -> AsyncIterator[tuple[PublicKey, PeerNetwork, PeerNetwork]]:
    async with (
        our_dht() as nodes,
        our_peer(nodes, 1) as one,
        our_peer(nodes, 2) as other,
        talk(["node", str(PEER_JS)]) as js,
    ):
        bootstrap = f"{HOST}:{nodes[0].socket(0).address[1]}"
        await js.call("start", bootstrap=bootstrap, options={"host": HOST, "firewalled": False})
        relay = await js.call("relay")
        yield PublicKey(bytes.fromhex(relay["key"])), one, other


async def hear(stream: UdxTrioStream, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        heard += await stream.receive_some()
    return heard


@pytest.mark.interop
async def test_two_streams_meet_at_a_relay_of_the_reference() -> None:
    with trio.fail_after(PATIENCE):
        async with (
            a_js_relay_and_two_of_us() as (relay, one, other),
            BlindRelays.open(key(1), one.connect) as relays,
            BlindRelays.open(key(2), other.connect) as other_relays,
        ):
            stream, other_stream = one.udx.create_stream(), other.udx.create_stream()
            proposal = propose(relay)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relays.meet, Meeting(relay, proposal.token, True), stream)
                nursery.start_soon(other_relays.meet, Meeting(relay, proposal.token, False), other_stream)
            data, back = bytes(range(256)) * 1000, b"back" * 5000  # the relay knows us once we have sent
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, data)
                nursery.start_soon(other_stream.send_all, back)
                assert await hear(other_stream, len(data)) == data
                assert await hear(stream, len(back)) == back
            assert (len(relays), len(other_relays)) == (1, 1)
            stream.destroy()
            other_stream.destroy()
            with trio.move_on_after(5):
                while len(relays) or len(other_relays):  # noqa: ASYNC110 - nobody else waits for this
                    await trio.sleep(0.01)
            assert (len(relays), len(other_relays)) == (0, 0)


@pytest.mark.interop
async def test_one_who_waits_alone_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2prss.net.connect.blind_relay.MEET_SECONDS", 1.0)
    with trio.fail_after(PATIENCE):
        async with (
            a_js_relay_and_two_of_us() as (relay, one, _),
            BlindRelays.open(key(1), one.connect) as relays,
        ):
            stream = one.udx.create_stream()
            with pytest.raises(ConnectError, match="relay"):
                await relays.meet(Meeting(relay, bytes(32), True), stream)
            stream.destroy()
