"""Machines of their own on one cable: network namespaces of Linux, joined by a bridge, without any route.

Nothing that is sent in them leaves them. Making them needs root, or ``sudo`` without a password, and the
command ``ip`` of iproute2; where that is missing, tests are skipped, but fail where ``CI`` is set.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

_SECONDS: Final = 20.0  # for one command
_NAME: Final = re.compile(r"p2prss-(\d+)-\w+")  # the number is that of the process whose test made it


class NamespacesMissing(Exception):
    """They cannot be made here; the text says why."""


@dataclass(frozen=True)
class Cable:
    """Some hosts on one network; ``hosts`` are the names of their namespaces."""

    hosts: tuple[str, ...]
    ipv4: bool  # besides link-local IPv6 addresses, or instead of them

    def prefix(self, host: int) -> tuple[str, ...]:
        """What to write before a command that is to run on that host."""
        return (*_as_root(), "ip", "netns", "exec", self.hosts[host], *_as_before())

    def unplug(self, host: int) -> None:
        """Cut a host off; it does not notice."""
        _ip("-n", self.hosts[host], "link", "set", "dev", "port", "down")

    def plug(self, host: int) -> None:
        """Undo ``unplug``."""
        _ip("-n", self.hosts[host], "link", "set", "dev", "port", "up")


@contextmanager
def cable(hosts: int, *, ipv4: bool = True, ipv6: bool = True) -> Iterator[Cable]:
    """Hosts 0, 1, … with 10.77.0.1, .2, … and link-local IPv6 addresses; everything goes at the end.

    Raises: NamespacesMissing.
    """
    if shutil.which("ip") is None:
        raise NamespacesMissing("the command ip is missing; it is in the package iproute2")
    _sweep()
    switch = f"p2prss-{os.getpid()}-switch"
    names = tuple(f"p2prss-{os.getpid()}-host{number}" for number in range(hosts))
    with contextlib.ExitStack() as stack:
        for name in (switch, *names):
            _ip("netns", "add", name)
            stack.callback(_delete, name)
            _ip("-n", name, "link", "set", "dev", "lo", "up")
            for family in ("default", "all"):
                settings = f"/proc/sys/net/ipv6/conf/{family}"
                line = f"echo 0 >{settings}/dad_transmits; echo {int(not ipv6)} >{settings}/disable_ipv6"
                _ip("netns", "exec", name, "sh", "-c", line)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", switch, "link", "set", "dev", "bridge", "up")
        for number, name in enumerate(names):
            plug = f"plug{number}"
            ends = ("link", "add", plug, "type", "veth", "peer", "name", "port", "netns", name)
            _ip("-n", switch, *ends)
            _ip("-n", switch, "link", "set", "dev", plug, "master", "bridge", "up")
            _ip("-n", name, "link", "set", "dev", "port", "up")
            if ipv4:
                _ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "port")
        yield Cable(names, ipv4)


@contextmanager
def cable_or_skip(hosts: int, *, ipv4: bool = True, ipv6: bool = True) -> Iterator[Cable]:
    """As ``cable``; a machine that can't is no reason to fail, unless it is the one that must."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(cable(hosts, ipv4=ipv4, ipv6=ipv6))
        except NamespacesMissing as error:
            if os.environ.get("CI", "").lower() in ("true", "1"):
                pytest.fail(f"no network namespaces: {error}")
            pytest.skip(f"no network namespaces: {error}")
        yield made


def _as_root() -> Sequence[str]:
    return () if os.geteuid() == 0 else ("sudo", "-n", "--preserve-env")


def _as_before() -> Sequence[str]:
    """From root back to who we are."""
    who = ("setpriv", "--reuid", str(os.getuid()), "--regid", str(os.getgid()), "--clear-groups")
    return () if os.geteuid() == 0 else who


def _ip(*words: str) -> str:
    """Run ``ip``. Raises: NamespacesMissing when it fails."""
    try:
        done = subprocess.run(
            [*_as_root(), "ip", *words], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NamespacesMissing(str(error)) from error
    if done.returncode:
        raise NamespacesMissing(f"ip {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _delete(name: str) -> None:
    """End what still runs there, and the namespace with it."""
    with contextlib.suppress(NamespacesMissing):
        for pid in _ip("netns", "pids", name).split():
            subprocess.run([*_as_root(), "kill", "-9", pid], capture_output=True, check=False)
    with contextlib.suppress(NamespacesMissing):
        _ip("netns", "delete", name)


def _sweep() -> None:
    """Delete what tests have left that were killed."""
    for line in _ip("netns", "list").splitlines():
        found = _NAME.match(line)
        if found and not os.path.isdir(f"/proc/{found[1]}"):  # noqa: PTH112 - a process, no path of ours
            _delete(found[0])
