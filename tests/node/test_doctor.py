"""What the doctor says of homes, clocks, ports and networks of all kinds, and that it does no harm."""

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2prss.log.database import SCHEMA_VERSION
from p2prss.log.store import Store
from p2prss.net.address import Address
from p2prss.net.dht.client import open_dht
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.nat import PunchSampler
from p2prss.net.dht.state import SERVER
from p2prss.node import doctor_home, doctor_network
from p2prss.node.doctor import DoctorSettings, run_doctor
from p2prss.node.doctor_checks import Check
from p2prss.node.doctor_home import check_clock, check_machine, lock_holder
from p2prss.node.doctor_network import check_dht, check_http, health_check, nat_check, port_check
from p2prss.node.home_paths import HomePaths

HOST: Final = "127.0.0.1"
PATIENCE: Final = 20  # seconds, for what takes a fraction of one


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """A home that a node has made and left in order."""
    with closing(Store.open(tmp_path / "home")) as store:
        store.create("a log").append([b"block"])
    return HomePaths(tmp_path / "home")


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However full the disk of this machine is: what has to stay free depends on it."""
    monkeypatch.setattr(doctor_home, "KEEP_FREE_BYTES", 0)
    monkeypatch.setattr(doctor_home, "KEEP_FREE_SHARE", 0.0)


def look(home: HomePaths) -> dict[str, Check]:
    return {check.name: check for check in check_machine(home)}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted([folder, *folder.rglob("*")])
    }


def test_a_good_home_is_good_and_stays_as_it_is(home: HomePaths) -> None:
    before = state(home.path.parent)
    found = look(home)
    assert list(found) == ["home", "database", "keys", "disk", "clock"]
    assert {name: check.result for name, check in found.items() if name != "clock"} == dict.fromkeys(
        ["home", "database", "keys", "disk"], "ok"
    )
    assert found["database"].details == {"schema": SCHEMA_VERSION}
    assert isinstance(found["disk"].details["sync_seconds"], float)
    assert not any(check.next_step for name, check in found.items() if name != "clock")
    after = state(home.path.parent)
    assert after.keys() == before.keys()  # the file that timed the disk had no name
    assert {name: data for name, (_, data) in after.items()} == {
        name: data for name, (_, data) in before.items()
    }


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = look(HomePaths(tmp_path / "deep" / "er"))
    assert found["home"].result == "ok"
    assert found["disk"].details["sync_seconds"] is None
    assert list(tmp_path.iterdir()) == []


def _newer(home: HomePaths) -> None:
    with closing(sqlite3.connect(home.database)) as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _scramble(home: HomePaths) -> None:
    data = bytearray(home.database.read_bytes())
    data[100:8192] = os.urandom(8092)
    home.database.write_bytes(data)


def _folder(home: HomePaths) -> None:
    home.database.unlink()
    home.database.mkdir()


BROKEN: Final[list[tuple[Callable[[HomePaths], object], str, int, str]]] = [
    (_newer, "database", 1, "a newer p2prss"),
    (_scramble, "database", 4, "is damaged"),
    (lambda home: home.database.write_bytes(b"hello"), "database", 4, "is no database"),
    (lambda home: home.database.write_bytes(b""), "database", 4, "is no database"),
    (_folder, "database", 5, "Is a directory"),
    (lambda home: (home.keys / "primary").unlink(), "keys", 4, "is missing"),
    (lambda home: (home.keys / "primary").write_bytes(bytes(31)), "keys", 4, "31 bytes instead of 32"),
]


@pytest.mark.parametrize(("break_it", "name", "code", "cause"), BROKEN)
def test_what_is_broken_is_named_with_what_to_do(
    break_it: Callable[[HomePaths], object], name: str, code: int, cause: str, home: HomePaths
) -> None:
    break_it(home)
    before = state(home.path)
    problems = [check for check in look(home).values() if check.result == "problem"]
    assert [(check.name, check.code) for check in problems] == [(name, code)]
    assert cause in problems[0].cause
    assert problems[0].next_step
    assert state(home.path).keys() == before.keys()


@given(header=st.binary(max_size=200))
def test_any_bytes_for_a_database_are_a_finding(
    header: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = HomePaths(tmp_path_factory.getbasetemp() / "any-database")
    home.path.mkdir(exist_ok=True)
    for content in (header, b"SQLite format 3\0" + header):
        home.database.write_bytes(content)
        assert look(home)["database"].result == "problem"
    assert list(home.path.iterdir()) == [home.database]


def test_secrets_that_others_may_read_are_a_warning(home: HomePaths) -> None:
    (home.keys / "primary").chmod(0o644)
    check = look(home)["keys"]
    assert (check.result, check.code) == ("warning", 0)
    assert "chmod 600" in check.next_step


@pytest.mark.parametrize("kind", ["file", "dangling link", "below a file"])
def test_homes_that_are_no_folders(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "home"
    if kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"")
    found = look(HomePaths(path / "deeper" if kind == "below a file" else path))
    assert (found["home"].result, found["home"].code) == ("problem", 5)
    assert "clock" in found


def test_a_home_that_cannot_be_looked_at_is_the_only_problem(tmp_path: Path) -> None:
    found = look(HomePaths(tmp_path / ("x" * 300)))  # longer than a name may be
    assert [check.name for check in found.values() if check.result == "problem"] == ["home"]
    assert "too long" in found["home"].cause


def test_who_owns_the_home_is_seen_without_getting_in_the_way(home: HomePaths) -> None:
    assert lock_holder(home) is None
    with closing(Store.open(home.path)):
        assert lock_holder(home) == str(os.getpid())
        assert look(home)["database"].result == "ok"
    assert lock_holder(home) is None


def test_a_full_disk_is_a_problem_and_a_rather_full_one_a_warning(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = look(home)["disk"].details["free_bytes"]
    assert isinstance(free, int)
    monkeypatch.setattr(doctor_home, "KEEP_FREE_BYTES", free * 0.7)
    assert look(home)["disk"].result == "warning"
    monkeypatch.setattr(doctor_home, "KEEP_FREE_BYTES", free * 2)
    check = look(home)["disk"]
    assert (check.result, check.code) == ("problem", 5)


def test_the_clock_is_compared_with_what_is_known(home: HomePaths) -> None:
    written = home.database.stat().st_mtime
    assert check_clock(home, 0.0).result == "problem"
    assert check_clock(home, written - 86400).result == "warning"
    assert check_clock(home, written + 86400).result in ("ok", "unknown")


# ---- ports and networks


def test_the_port_for_podcast_apps() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        address = Address(HOST, taken.getsockname()[1])
        assert check_http(address, moves=True, running=None).result == "warning"
        asked = check_http(address, moves=False, running=None)
        assert (asked.result, asked.code) == ("problem", 3)
        held = check_http(address, moves=True, running=f"http://{address}")
        assert (held.result, held.details) == ("ok", {"url": f"http://{address}"})
    assert check_http(address, moves=False, running=None).result == "ok"
    assert check_http(Address("192.0.2.77", 1), moves=True, running=None).result == "problem"


def seen_at(*addresses: tuple[str, int]) -> PunchSampler:
    sampler = PunchSampler()
    for address in addresses:
        sampler.add(Endpoint(*address))
    return sampler


NATS: Final = {
    "consistent": seen_at(*[("93.184.216.34", 4000)] * 4),
    "random": seen_at(*[("93.184.216.34", port) for port in range(4000, 4004)]),
    None: seen_at(("93.184.216.34", 4000)),
}


def test_nats_and_what_they_mean() -> None:
    results = {"consistent": "ok", "random": "warning", None: "unknown"}
    for kind, sampler in NATS.items():
        check = nat_check(None, sampler)
        assert (check.details.get("kind"), check.result) == (kind, results[kind])
        assert bool(check.next_step) == (kind != "consistent")
        assert port_check(4000, None, sampler).result == "warning"
    assert "no NAT but a firewall" in nat_check(None, NATS["consistent"], {"93.184.216.34"}).cause
    public = Endpoint("93.184.216.34", 4000)
    assert nat_check(public, NATS["consistent"]).details == {"kind": "open"}
    assert port_check(4000, public, NATS["consistent"]).details == {"port": 4000, "address": str(public)}


def test_how_the_dht_does() -> None:
    assert health_check(300, 0.8, 20, public=True).result == "ok"
    assert health_check(3, 0.8, 3, public=True).result == "warning"
    assert health_check(3, 0.8, 3, public=False).result == "ok"
    for nodes, seconds, answered in ((300, None, 0), (300, 9.0, 20), (0, 0.1, 0)):
        check = health_check(nodes, seconds, answered, public=False)
        assert (check.result, bool(check.next_step)) == ("warning", True)


async def test_a_network_of_one_node_is_looked_at() -> None:
    with trio.fail_after(PATIENCE):
        async with open_dht(host=HOST, port=0, bootstraps=[], public_host=HOST) as node:
            checks = await check_dht([f"{HOST}:{node.socket(SERVER).address[1]}"], 0)
    nat, port, dht = checks
    assert (nat.details["kind"], nat.result) == ("open", "ok")
    assert (port.name, port.result) == ("port", "ok")
    assert (dht.details["nodes"], dht.details["answered"]) == (1, 1)


async def test_a_silent_network_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_network, "BOOTSTRAP_SECONDS", 0.3)
    with silent_node() as listening:
        nat, *_ = await check_dht([address_of(listening)], 0)
        assert listening.recv(100)  # it was asked
        assert address_of(listening) in nat.cause
    assert (nat.result, nat.code, nat.details) == ("problem", 3, {"kind": "no-udp"})


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        (check,) = await check_dht([f"{HOST}:9"], taken.getsockname()[1])
    assert (check.name, check.result, check.code) == ("port", "problem", 3)


async def test_without_the_dht_nothing_is_sent(tmp_path: Path) -> None:
    with silent_node() as listening:
        settings = DoctorSettings.of(home=tmp_path, bootstrap=[address_of(listening)], no_dht=True)
        found = await run_doctor(settings, lambda _: None)
        with pytest.raises(BlockingIOError):
            listening.recv(100)
    assert [(check.name, check.result) for check in found[-3:]] == [
        ("nat", "unknown"),
        ("port", "unknown"),
        ("dht", "unknown"),
    ]


def silent_node() -> socket.socket:
    """A socket that answers nobody."""
    listening = socket.socket(type=socket.SOCK_DGRAM)
    listening.setblocking(False)
    listening.bind((HOST, 0))
    return listening


def address_of(listening: socket.socket) -> str:
    return f"{HOST}:{listening.getsockname()[1]}"
