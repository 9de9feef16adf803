"""The node of ``p2prss node`` inside this process: what it says of itself, and ports forwarded to it."""

import struct
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

from p2prss.errors import UsageError
from p2prss.net import port_mapping
from p2prss.net.address import Address
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.lan.interfaces import Interface
from p2prss.node import dht_service
from p2prss.node.dht_service import (
    DhtServiceSettings,
    Listening,
    ServiceEvent,
    open_dht_service,
    run_dht_service,
)
from p2prss.node.events import Event, Notice
from p2prss.node.node import open_node
from p2prss.node.settings import NodeSettings

PATIENCE: Final = 15  # seconds, for what takes a fraction of one
LOOPBACK: Final = Address("127.0.0.1", 0)


async def gateway(outside: str, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
    """A router on loopback that forwards what it is asked to."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        task_status.started(socket.getsockname())
        while True:
            request, client = await socket.recvfrom(100)
            answer = struct.pack(">BBHI4B", 0, 128, 0, 1, *map(int, outside.split(".")))
            if len(request) > 2:
                _, opcode, _, inner, outer, seconds = struct.unpack(">BBHHHI", request)
                answer = struct.pack(">BBHIHHI", 0, 128 + opcode, 0, 1, inner, outer, seconds)
            await socket.sendto(answer, client)


async def first_events(settings: DhtServiceSettings, count: int) -> list[ServiceEvent]:
    told: list[ServiceEvent] = []
    enough = trio.Event()

    def tell(event: ServiceEvent) -> None:
        told.append(event)
        if len(told) == count:
            enough.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_dht_service, settings, tell)
            await enough.wait()
            nursery.cancel_scope.cancel()
    return told[:count]


@pytest.mark.parametrize(
    ("outside", "reachable"), [("93.184.216.34", True), ("100.64.1.2", False)], ids=["public", "two NATs"]
)
async def test_a_forwarded_port_is_where_others_find_the_node(outside: str, reachable: bool) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(gateway, outside)
        settings = DhtServiceSettings(listen=LOOPBACK, map_port=True, gateway=address)
        listening, notice = await first_events(settings, 2)
        nursery.cancel_scope.cancel()
    assert isinstance(listening, Listening)
    assert isinstance(notice, Notice)
    assert listening.bootstrap.startswith(f"{outside}:" if reachable else "127.0.0.1:")
    assert f"UDP {outside}:" in notice.message
    assert ("behind another NAT" in notice.message) is not reachable


async def test_the_ports_of_a_node_with_feeds_are_forwarded_when_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that peers come to: TCP where it listens, UDP for the DHT."""
    asked: list[str] = []
    monkeypatch.setattr(port_mapping, "default_gateway", lambda: asked.append("gateway"))
    told, notices = trio.open_memory_channel[str](100)

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            told.send_nowait(event.message)

    async def heard(*, map_port: bool) -> set[str]:
        settings = NodeSettings.of(
            home=tmp_path / "home",
            listen=("127.0.0.1:0",),
            bootstrap=(bootstrap,),
            dht=True,
            map_port=map_port,
        )
        async with open_node(settings, tell, with_http=False):
            with trio.move_on_after(5 if map_port else 0.3):
                return {await notices.receive(), await notices.receive()}
        return set()

    async with open_dht_service(DhtServiceSettings(listen=LOOPBACK)) as service:
        bootstrap = service.listening.bootstrap
        assert await heard(map_port=False) == set()
        assert asked == []
        lines = await heard(map_port=True)
    assert {line.split()[0] for line in lines} == {"TCP", "UDP"}
    assert all("no port is forwarded: this machine has no default route" in line for line in lines)


async def test_no_router_is_asked_unless_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(port_mapping, "default_gateway", lambda: asked.append("gateway"))
    await first_events(DhtServiceSettings(listen=LOOPBACK), 1)
    assert asked == []
    _, notice = await first_events(DhtServiceSettings(listen=LOOPBACK, map_port=True), 2)
    assert isinstance(notice, Notice)
    assert "no default route" in notice.message
    assert asked


async def test_a_node_under_a_name() -> None:
    """Its id comes from the address of the name; what others are told is the name."""
    settings = DhtServiceSettings(listen=LOOPBACK, public=Address("localhost", 4000))
    async with open_dht_service(settings) as service:
        assert service.listening.bootstrap == "localhost:4000"
        assert service.node.machine.state.id == node_id(Endpoint("127.0.0.1", 4000))


async def test_a_name_that_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object) -> object:
        raise OSError("no such name")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match="has no address")):
        async with open_dht_service(DhtServiceSettings(listen=LOOPBACK, public=Address("ship.example", 1))):
            pass


async def test_the_address_is_that_on_the_side_of_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = [
        Interface(2, IPv4Interface("172.17.0.1/16")),
        Interface(3, IPv4Interface("192.168.7.20/24")),
    ]
    monkeypatch.setattr(dht_service, "local_interfaces", lambda: interfaces)
    monkeypatch.setattr(dht_service, "default_gateway", lambda: "192.168.7.1")
    told: list[ServiceEvent] = []
    async with open_dht_service(
        DhtServiceSettings(listen=Address("0.0.0.0", 0), statistics_seconds=0.01)
    ) as service:
        port = service.listen.port
        assert service.listening.bootstrap == f"192.168.7.20:{port}"
        assert service.listening.others == [f"172.17.0.1:{port}"]
        del interfaces[1]
        with trio.move_on_after(0.2):
            await service.run(told.append)
    (moved,) = [event for event in told if isinstance(event, Notice)]
    assert moved.message.startswith("this machine is no longer 192.168.7.20, but 172.17.0.1; ")


async def test_who_finds_nobody_says_so(autojump_clock: trio.testing.MockClock) -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        bootstrap = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = DhtServiceSettings(listen=LOOPBACK, bootstrap=(bootstrap,))
        listening, notice = await first_events(settings, 2)
    assert isinstance(listening, Listening)
    assert not listening.reachable
    assert notice == Notice(message=f"no node answers at {bootstrap}; still trying")
