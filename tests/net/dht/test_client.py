"""The node on real sockets, on loopback, with nodes of ours only."""

from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.errors import NetworkError, UsageError
from p2prss.net.dht import shell
from p2prss.net.dht.bootstrap import PUBLIC_BOOTSTRAPS, Bootstrap
from p2prss.net.dht.client import DhtNode, open_dht
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.handshake import HandshakeEnvelope, Mode
from p2prss.net.dht.messages import Command
from p2prss.net.dht.records import peer_target
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.dht.state import CLIENT, SERVER
from p2prss.net.dht.udp import OnDatagram, UdpSocket
from p2prss.net.udx.endpoint import UdxEndpoint

HOST = "127.0.0.1"
PATIENCE = 15  # seconds, for what takes a fraction of one
KEY = KeyPair.from_seed(b"\7" * 32)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may ask a name server: only ``localhost`` has an address here."""
    lookup = trio.socket.getaddrinfo

    async def local_only(host: str, *rest: object) -> object:
        if host != "localhost":
            raise OSError("no name server in tests")
        return await lookup(HOST, *rest)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(trio.socket, "getaddrinfo", local_only)


def first_node() -> AbstractAsyncContextManager[DhtNode]:
    return open_dht(host=HOST, port=0, bootstraps=[], public_host=HOST)


def port_of(node: DhtNode) -> int:
    return node.socket(SERVER).address[1]


def test_bootstrap_texts() -> None:
    assert Bootstrap.parse("1.2.3.4:5").known == Endpoint("1.2.3.4", 5)
    assert Bootstrap.parse("node.example:5") == Bootstrap("node.example", 5)
    assert Bootstrap.parse("1.2.3.4@node.example:5") == Bootstrap("node.example", 5, "1.2.3.4")
    assert all(Bootstrap.parse(text).known for text in PUBLIC_BOOTSTRAPS)
    for text in ("node.example", "1.2.3.400@node.example:5", "node.example:0", "1.2.3.4:x"):
        with pytest.raises(UsageError):
            Bootstrap.parse(text)


async def test_a_node_starts_from_a_name() -> None:
    with trio.fail_after(PATIENCE):
        async with (
            first_node() as first,
            open_dht(host=HOST, port=0, bootstraps=[f"localhost:{port_of(first)}"]) as node,
        ):
            await node.wait_bootstrapped()
            assert node.recent_nodes(5) == [Endpoint(HOST, port_of(first))]


async def test_a_name_is_looked_up_when_the_known_address_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell, "BOOTSTRAP_PATIENCE", 0.05)
    with trio.fail_after(PATIENCE):
        silent = UdpSocket.bind("127.0.0.2")
        async with first_node() as first:
            bootstrap = f"127.0.0.2@localhost:{port_of(first)}"
            async with open_dht(host=HOST, port=0, bootstraps=[bootstrap]) as node:
                await node.wait_bootstrapped()
                assert node.statistics().nodes == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(silent.run)
            nursery.cancel_scope.cancel()


async def test_without_a_network_operations_fail_in_words_and_in_time() -> None:
    with trio.fail_after(PATIENCE):
        async with open_dht(host=HOST, port=0, bootstraps=[]) as node:
            await node.wait_bootstrapped()  # of nothing: it is the first
            assert (await node.lookup(bytes(32))).peers == ()
            assert await node.find_peer(KEY.public_key) == ()
            assert await node.get_immutable(bytes(32)) is None
            for operation in (
                node.announce(bytes(32), KEY),
                node.announce_self(KEY),
                node.put_mutable(KEY, b"", seq=0),
                node.ping(Endpoint(HOST, 0)),
            ):
                with pytest.raises(NetworkError):
                    await operation
            with pytest.raises(UsageError):
                await node.put_immutable(bytes(1001))


async def test_a_silent_node_is_an_error_after_its_sends(autojump_clock: trio.testing.MockClock) -> None:
    line = DeadLine()
    node = DhtNode(line, None, bootstraps=[])
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        started = trio.current_time()
        with pytest.raises(NetworkError, match="does not answer"):
            await node.ping(Endpoint(HOST, 9), sends=3)
        assert trio.current_time() - started == pytest.approx(3.0)
        assert len(line.sent) == 3
        nursery.cancel_scope.cancel()


async def test_values_and_their_order() -> None:
    with trio.fail_after(PATIENCE):
        async with (
            first_node() as first,
            open_dht(host=HOST, port=0, bootstraps=[f"{HOST}:{port_of(first)}"]) as node,
        ):
            await node.wait_bootstrapped()
            assert await node.put_mutable(KEY, b"new", seq=2) == 1
            with pytest.raises(NetworkError, match="number"):
                await node.put_mutable(KEY, b"old", seq=1)
            value = await node.get_mutable(KEY.public_key, latest=False)
            assert value is not None
            assert value.value == b"new"
            target = await node.put_immutable(b"x" * 1000)
            assert target == blake2b(b"x" * 1000)
            assert await node.get_immutable(target) == b"x" * 1000


async def test_a_handshake_finds_its_server_through_a_relay() -> None:
    """What ``connect`` builds on: announce, find, send through the relay, answer."""
    with trio.fail_after(PATIENCE):
        async with first_node() as first:
            bootstraps = [f"{HOST}:{port_of(first)}"]
            async with (
                open_dht(host=HOST, port=0, bootstraps=bootstraps) as server,
                open_dht(host=HOST, port=0, bootstraps=bootstraps) as client,
            ):
                await server.wait_bootstrapped()
                await client.wait_bootstrapped()
                messages: list[PeerMessage] = []

                def handle(message: PeerMessage, _now: float) -> None:
                    messages.append(message)
                    server.answer(message, b"noise reply")

                server.serve(KEY.public_key, handle)
                [relay] = await server.announce_self(KEY)
                assert relay.relay_address == Endpoint(HOST, port_of(first))
                [found] = await client.find_peer(KEY.public_key)
                value = HandshakeEnvelope(Mode.FROM_CLIENT, b"noise").encode()
                response = await client.request(
                    found, Command.PEER_HANDSHAKE, target=peer_target(KEY.public_key), value=value
                )
                assert response.reply.value is not None
                envelope = HandshakeEnvelope.decode(response.reply.value)
                assert (envelope.mode, envelope.noise) == (Mode.REPLY, b"noise reply")
                assert envelope.peer_address == relay.peer_address
                assert messages[0].client_address == response.reply.to
                assert messages[0].is_relayed
                assert first.statistics().forwarded == 2


async def test_more_sockets_and_foreign_datagrams() -> None:
    """A socket for a hole to punch: DHT requests may leave through it, probes are handed on."""
    with trio.fail_after(PATIENCE):
        async with (
            first_node() as first,
            open_dht(host=HOST, port=0, bootstraps=[f"{HOST}:{port_of(first)}"]) as node,
        ):
            extra, probes = UdpSocket.bind(HOST), []
            number = node.add_socket(extra)
            assert number > CLIENT
            arrived = trio.Event()

            def other(data: bytes, source: Endpoint, socket: int) -> None:
                probes.append((data, source, socket))
                arrived.set()

            node.on_other = other
            async with trio.open_nursery() as nursery:
                nursery.start_soon(extra.run)
                pong = await node.ping(Endpoint(HOST, port_of(first)), socket=number)
                assert pong.reply.to == extra.address
                assert pong.socket == number
                assert pong.reply.id == node_id(Endpoint(HOST, port_of(first)))
                first.socket(SERVER).send_datagram(b"\0", extra.address)
                await arrived.wait()
                assert probes == [(b"\0", Endpoint(HOST, port_of(first)), number)]
                node.remove_socket(number)
                nursery.cancel_scope.cancel()


async def test_who_waits_for_a_change_hears_of_it() -> None:
    with trio.fail_after(PATIENCE):
        async with (
            first_node() as first,
            open_dht(host=HOST, port=0, bootstraps=[f"{HOST}:{port_of(first)}"]) as node,
        ):
            view = node.network_view
            while view.firewalled:
                view = await node.wait_network_change(view)
            assert node.public_endpoint == Endpoint(HOST, port_of(node))
            assert not node.persistent


async def test_taken_ports_are_an_error_in_words() -> None:
    async with first_node() as first:
        with pytest.raises(NetworkError, match=str(port_of(first))):
            async with open_dht(host=HOST, port=port_of(first), bootstraps=[]):
                pass


class DeadLine:
    """A socket whose other end nobody holds."""

    def __init__(self) -> None:
        self.on_datagram: OnDatagram | None = None
        self.address = (HOST, 40001)
        self.sent: list[bytes] = []

    def send_datagram(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.sent.append(datagram)


async def test_udx_streams_and_the_dht_share_a_socket() -> None:
    with trio.fail_after(PATIENCE):
        async with first_node() as first, UdxEndpoint.open() as endpoint, trio.open_nursery() as nursery:
            bootstraps = [f"{HOST}:{port_of(first)}"]
            server, client = endpoint.bind(HOST, 0), endpoint.bind(HOST, 0)
            node = await nursery.start(DhtNode(server, client, bootstraps=bootstraps).run)
            await node.wait_bootstrapped()
            assert (await node.announce(bytes(32), KEY)).stored == 1
            here, there = endpoint.create_stream(), endpoint.create_stream()
            here.connect(server, there.stream_id, client.address)
            there.connect(client, here.stream_id, server.address)
            await here.send_all(b"beside the DHT")
            assert await there.receive_some() == b"beside the DHT"
            [peer] = (await node.lookup(bytes(32))).peers
            assert peer.public_key == KEY.public_key
            nursery.cancel_scope.cancel()
