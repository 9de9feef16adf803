"""An internet in one process: hosts are network namespaces, all between them happens here.

    python -m tests.net.nat.internet  < one line of JSON, then commands

Each host has one tun device; the process holds the other ends. So NATs, delays, losses and hops are exactly
what the plan says, on any Linux that has namespaces and /dev/net/tun, without kernel modules for NAT or
netem. Nothing leaves the machine: there is no other way out of the namespaces.

The plan: {"prefix": str, "seed": int, "delay": seconds, "jitter": seconds, "loss": share, "hosts": [{"name":
str, "addresses": [str], "boxes": [name, from inside out]}], "boxes": {name: [kind, public host]}}. Jitter
reorders. Commands: "stats" prints counters; "stop" or the end of input ends it, and the namespaces with it.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import threading
from collections import Counter
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from tests.net.nat.boxes import MAKERS, Box
from tests.net.nat.packets import Packet, read_packet, write_packet

CORE_HOPS: Final = 8  # routers between any two networks: a packet with a TTL of 5 dies among them
READ_SIZE: Final = 2048  # bytes, more than a packet has
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
DEVICE: Final = "net0"


class Host:
    """A namespace, and the chain of boxes it sits behind."""

    def __init__(self, namespace: str, addresses: list[str], boxes: list[Box]) -> None:
        self.namespace = namespace
        self.addresses = addresses
        self.boxes = boxes
        self.tun = -1

    def make(self) -> None:
        """Create the namespace with its device."""
        _run("ip", "netns", "add", self.namespace)
        self.tun = _open_tun(self.namespace)
        for address in self.addresses:
            _run("ip", "-n", self.namespace, "address", "add", f"{address}/32", "dev", DEVICE)
        for device in ("lo", DEVICE):
            _run("ip", "-n", self.namespace, "link", "set", "dev", device, "up")
        _run("ip", "-n", self.namespace, "route", "add", "default", "dev", DEVICE)

    def unmake(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.tun)
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True, check=False)


class Internet:
    """Moves packets until told to stop."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.random = Random(plan.get("seed", 1))
        self.counters: Counter[str] = Counter()
        self._delay, self._jitter = float(plan.get("delay", 0.01)), float(plan.get("jitter", 0.0))
        self._loss = float(plan.get("loss", 0.0))
        self._boxes = {
            name: MAKERS[kind](public, self.random) for name, (kind, public) in plan["boxes"].items()
        }
        self.hosts = [
            Host(
                f"{plan['prefix']}{host['name']}", host["addresses"], [self._boxes[b] for b in host["boxes"]]
            )
            for host in plan["hosts"]
        ]
        self._on_the_way: list[tuple[float, int, Packet]] = []
        self._count = 0

    def send(self, host: Host, packet: Packet, now: float) -> None:
        """A host has sent it: through its boxes, then across, unless it is for a neighbour."""
        for depth, box in enumerate(host.boxes):
            for neighbour in self.hosts:
                if neighbour.boxes[depth:] == host.boxes[depth:] and packet.destination.host in (
                    neighbour.addresses if len(neighbour.boxes) == len(host.boxes) - depth else ()
                ):
                    self._write(neighbour, packet)
                    return
            packet = box.outbound(packet._replace(ttl=packet.ttl - 1), now)
            if packet.ttl <= 0:
                self.counters["expired"] += 1
                return
            if box.hairpin and packet.destination.host == box.public:
                self._enter(packet, [other for other in self.hosts if box in other.boxes], box, now)
                return
        if packet.ttl <= CORE_HOPS:
            self.counters["expired"] += 1
        elif self.random.random() < self._loss:
            self.counters["lost"] += 1
        else:
            self._count += 1
            due = now + self._delay + self.random.uniform(0, self._jitter)
            heappush(self._on_the_way, (due, self._count, packet._replace(ttl=packet.ttl - CORE_HOPS)))

    def arrive(self, now: float) -> None:
        """Deliver what has been on its way long enough."""
        while self._on_the_way and self._on_the_way[0][0] <= now:
            packet = heappop(self._on_the_way)[2]
            hosts = [host for host in self.hosts if packet.destination.host in _outermost(host)]
            if not hosts:
                self.counters["nowhere"] += 1
            elif not hosts[0].boxes:
                self._write(hosts[0], packet)
            else:
                self._enter(packet, hosts, hosts[0].boxes[-1], now)

    def _enter(self, packet: Packet, hosts: list[Host], box: Box, now: float) -> None:
        """Pass a packet inwards, through that box and the ones behind it, to one of these hosts."""
        inside = box.inbound(packet, now)
        if inside is None:
            self.counters["filtered"] += 1
            return
        inside = inside._replace(ttl=inside.ttl - 1)
        for host in hosts:
            depth = host.boxes.index(box)
            if depth and host.boxes[depth - 1].public == inside.destination.host:
                nearer = host.boxes[depth - 1]
                self._enter(inside, [other for other in hosts if nearer in other.boxes], nearer, now)
                return
            if not depth and inside.destination.host in host.addresses:
                self._write(host, inside)
                return
        self.counters["nowhere"] += 1

    def run(self) -> None:
        """Until standard input says so, or ends."""
        poll = select.poll()
        by_tun = {host.tun: host for host in self.hosts}
        for tun in [*by_tun, 0]:
            poll.register(tun, select.POLLIN)
        while True:
            wait = self._on_the_way[0][0] - monotonic() if self._on_the_way else 1.0
            for ready, _ in poll.poll(max(0.0, wait * 1000)):
                if ready == 0:
                    if not self._obey(sys.stdin.readline().strip()):
                        return
                    continue
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet = read_packet(os.read(ready, READ_SIZE))
                        if packet is not None:
                            self.counters["sent"] += 1
                            self.send(by_tun[ready], packet, monotonic())
            self.arrive(monotonic())

    def _obey(self, word: str) -> bool:
        if word == "stats":
            counters = {**self.counters, **{f"dropped by {n}": b.dropped for n, b in self._boxes.items()}}
            print(json.dumps(counters), flush=True)
        return word == "stats"

    def _write(self, host: Host, packet: Packet) -> None:
        self.counters["delivered"] += 1
        with contextlib.suppress(OSError):
            os.write(host.tun, write_packet(packet))


def _outermost(host: Host) -> list[str]:
    """The addresses that the internet knows it by."""
    publics = [box.public for box in host.boxes if box.public is not None]
    return publics[-1:] or host.addresses


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def _open_tun(namespace: str) -> int:
    """A tun device in a namespace: whoever holds the descriptor may use it from anywhere."""
    outcome: list[int | OSError] = []

    def work() -> None:  # in a thread of its own: only that one changes its namespace
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with Path(f"/run/netns/{namespace}").open("rb") as place:
                if libc.setns(place.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN_NO_PI))
            outcome.append(tun)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def main() -> None:
    internet = Internet(json.loads(sys.stdin.readline()))
    try:
        for host in internet.hosts:
            host.make()
    except (OSError, subprocess.CalledProcessError) as error:
        print(json.dumps({"error": str(getattr(error, "stderr", "") or error)}), flush=True)
    else:
        print(json.dumps({"ready": [host.namespace for host in internet.hosts]}), flush=True)
        internet.run()
    finally:
        for host in internet.hosts:
            host.unmake()


if __name__ == "__main__":
    main()
