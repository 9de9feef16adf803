"""One peer of ours, or a whole public DHT, on a host of its own; driven by JSON lines like ``peer.js``.

python -m tests.net.nat.peer
"""

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from os import urandom
from typing import Any, Final, TypeVar

import trio

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import NetworkError, P2prssError
from p2prss.net.connect.network import PeerNetwork, open_network
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.dht.client import DhtNode, open_dht
from p2prss.wire.connection import Connection, Ready

PATIENCE: Final = 10.0  # seconds for the header of a peer that is connected

T = TypeVar("T")


class Peer:
    """Obeys one command at a time, but ``listen`` goes on."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._network: PeerNetwork | None = None
        self._has_relay = False
        self._keys = KeyPair.from_seed(urandom(32))

    async def public(self, hosts: list[str], port: int) -> None:
        """A DHT of its own, one node for each host; the first is the bootstrap."""
        for host in hosts:
            bootstraps = [f"{hosts[0]}:{port}"] if host != hosts[0] else []
            made = open_dht(host=host, port=port, public_host=host, bootstraps=bootstraps)
            node: DhtNode = await self._nursery.start(_hold, made)
            if bootstraps:
                await node.wait_bootstrapped()

    async def start(self, bootstrap: str, relay: str | None) -> dict[str, Any]:
        self._has_relay = relay is not None
        blind_relay = None if relay is None else PublicKey(bytes.fromhex(relay))
        made = open_network(self._keys, bootstraps=[bootstrap], blind_relay=blind_relay, accept_relays=True)
        self._network = await self._nursery.start(_hold, made)
        assert self._network is not None
        with trio.move_on_after(PATIENCE):
            await self._network.dht.wait_bootstrapped()
            await trio.sleep(0.5)  # for the check whether strangers reach us
        view = self._network.dht.network_view
        return {"firewalled": view.firewalled, "host": view.host, "port": view.port}

    async def listen(self) -> dict[str, Any]:
        network = self._network
        assert network is not None

        async def meet(peer: PeerStream) -> None:
            try:
                await _wait_ready(peer, self._keys)
            except (P2prssError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                peer.stream.destroy()

        self._nursery.start_soon(lambda: network.serve(meet, admit=lambda _key: True))
        with trio.move_on_after(PATIENCE):
            await network.wait_announced()
        return {"key": self._keys.public_key.hex(), "relays": [str(relay) for relay in network.relays]}

    async def connect(self, key: str) -> dict[str, Any]:
        assert self._network is not None
        began = trio.current_time()
        public_key = PublicKey(bytes.fromhex(key))
        try:
            peer = await self._network.connect(public_key)
        except ConnectError:
            if not self._has_relay:
                raise
            peer = await self._network.connect(public_key)  # a relay is proposed the second time
        try:
            await _wait_ready(peer, self._keys, once=True)
            remote = peer.stream.machine.remote
            seconds = trio.current_time() - began
            address = "" if remote is None else f"{remote.address[0]}:{remote.address[1]}"
            return {"seconds": round(seconds, 3), "remote": address, "path": peer.path.value}
        finally:
            peer.stream.destroy()


async def _wait_ready(peer: PeerStream, keys: KeyPair, *, once: bool = False) -> None:
    """Until the peer's header came: it has the keys and hears us; unless ``once``, until it leaves."""
    machine = Connection(
        initiator=peer.initiator,
        key_pair=keys,
        ephemeral_seed=urandom(32),
        stream_header=urandom(24),
        now=trio.current_time(),
        handshake=peer.handshake,
    )
    stream = peer.stream
    while not machine.closed:
        for data in machine.data_to_send():
            await stream.send_all(bytes(data))
        if once:
            with trio.fail_after(PATIENCE):
                data = await stream.receive_some()
        else:
            data = await stream.receive_some()
        events = machine.receive(data, trio.current_time())
        if once and any(isinstance(event, Ready) for event in events):
            return


async def _hold(
    manager: AbstractAsyncContextManager[T], task_status: trio.TaskStatus[T] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep it open until the nursery ends."""
    async with manager as made:
        task_status.started(made)
        await trio.sleep_forever()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        buffer = bytearray()
        stdin = trio.lowlevel.FdStream(sys.stdin.fileno())
        async for chunk in stdin:
            buffer += chunk
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                message = json.loads(line)
                number, name = message.pop("id"), message.pop("do")
                command: Callable[..., Awaitable[object]] = getattr(peer, name)
                try:
                    answer = {"id": number, "ok": await command(**message)}
                except ConnectError as error:
                    answer = {"id": number, "error": error.reason}
                except (NetworkError, trio.TooSlowError, trio.BrokenResourceError) as error:
                    answer = {"id": number, "error": str(error) or type(error).__name__}
                print(json.dumps(answer), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
