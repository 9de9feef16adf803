"""The doctor: looks at everything that p2prss needs, and says what to do about what is amiss.

It creates nothing, changes nothing, and sends nothing but to the DHT, unless that is switched off too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2prss.errors import P2prssError, StorageError
from p2prss.net.address import Address
from p2prss.net.dht.bootstrap import Bootstrap
from p2prss.node.control import NodeStatus, ask_status
from p2prss.node.doctor_checks import Check, guarded, ok, problem, unknown, warning
from p2prss.node.doctor_home import check_machine, lock_holder
from p2prss.node.doctor_network import check_dht, check_http, check_lan, no_dht
from p2prss.node.home_paths import HomePaths
from p2prss.node.settings import DEFAULT_HTTP

DISK_SECONDS: Final = 20.0  # for everything that only touches the disk
STATUS_SECONDS: Final = 5.0  # for the node that runs here to answer

Tell = Callable[[Check], None]


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """What is looked at, checked before anything is."""

    home: HomePaths
    bootstrap: tuple[str, ...] = ()  # none: the public nodes
    dht: bool = True
    lan: bool = True
    http: Address | None = DEFAULT_HTTP
    http_may_move: bool = True
    port: int | None = None  # UDP, whose reachability is looked at

    @classmethod
    def of(
        cls,
        *,
        home: Path | None,
        bootstrap: Iterable[str] = (),
        no_dht: bool = False,
        no_lan: bool = False,
        http: str | None = None,
        no_http: bool = False,
        port: int | None = None,
    ) -> "DoctorSettings":
        """Settings from texts. Raises: UsageError for an address that is none."""
        starts = tuple(bootstrap)
        for text in starts:
            Bootstrap.parse(text)
        return cls(
            home=HomePaths.find(home),
            bootstrap=starts,
            dht=not no_dht,
            lan=not no_lan,
            http=None if no_http else Address.parse(http) if http else DEFAULT_HTTP,
            http_may_move=http is None,
            port=port,
        )


async def run_doctor(settings: DoctorSettings, tell: Tell) -> list[Check]:
    """Look at everything; each finding is told as soon as it is there."""
    found: list[Check] = []

    def take(checks: Iterable[Check]) -> None:
        for check in checks:
            found.append(check)
            tell(check)

    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    with trio.move_on_after(DISK_SECONDS) as scope:
        take(await in_thread(lambda: list(check_machine(settings.home))))
    if scope.cancelled_caught:
        cause = f"{settings.home.path} does not answer within {DISK_SECONDS:.0f} s"
        take(
            [problem("disk", StorageError, cause, "see whether that disk, or the network it is on, is there")]
        )
        status = None
    else:
        status, node = await _look_at_node(settings.home)
        take([node])
    if settings.http is not None:
        running = None if status is None else status.http
        take([await in_thread(partial(_http, settings, settings.http, running))])
    if settings.lan:
        take([await in_thread(check_lan)])
    take(await check_dht(settings.bootstrap, settings.port) if settings.dht else no_dht())
    return found


async def _look_at_node(home: HomePaths) -> tuple[NodeStatus | None, Check]:
    """Does a node run on this home, and does it answer?"""
    try:
        holder = await trio.to_thread.run_sync(lock_holder, home)
    except OSError as error:
        return None, unknown("node", f"{home.lock}: {error.strerror or error}")
    if holder is None:
        return None, ok("node", "no node runs on this home", running=False)
    try:
        with trio.fail_after(STATUS_SECONDS):
            status = await ask_status(home)
    except (P2prssError, trio.TooSlowError):
        step = "wait until it has ended, or stop it"
        return None, warning("node", f"process {holder} uses this home, but does not answer", step)
    peers = sum(len(feed.peers) for feed in status.feeds)
    told = f"a node runs on this home: process {status.pid}, {len(status.feeds)} feeds, {peers} peers"
    if status.lan is not None:
        told = f"{told}, {status.lan.neighbours} neighbours on the local network"
    return status, ok("node", told, running=True, pid=status.pid)


def _http(settings: DoctorSettings, address: Address, running: str | None) -> Check:
    return guarded("http", lambda: check_http(address, moves=settings.http_may_move, running=running))
