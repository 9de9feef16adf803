"""What the doctor says behind boxes of all kinds, on an internet with a DHT of its own."""

import os
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.e2e.program import run
from tests.net.nat.bed import BedMissing, open_bed

pytestmark = pytest.mark.netns

SECONDS: Final = 120  # for what takes twenty
KINDS: Final = {
    "open": ("open", "ok", "strangers reach"),
    "firewall": ("consistent", "warning", "no NAT but a firewall"),
    "steady": ("consistent", "warning", "get through the router"),
    "random": ("random", "warning", "another port for each peer"),
    "double": ("consistent", "warning", "get through the router"),
}
"""What is in front of the machine → kind of NAT, whether its port is reached, and words that tell why."""


async def test_the_doctor_tells_what_is_in_front_of_the_machine(tmp_path: Path) -> None:
    try:
        with trio.fail_after(SECONDS):
            async with open_bed(KINDS) as bed, bed.public_dht(), trio.open_nursery() as nursery:
                for kind in KINDS:
                    nursery.start_soon(_examine, kind, bed.bootstrap, tmp_path)
    except BedMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


async def _examine(kind: str, bootstrap: str, folder: Path) -> None:
    host = ("ip", "netns", "exec", f"p2prss-{os.getpid()}-client-{kind}")
    prefix = host if os.geteuid() == 0 else ("sudo", "-n", "--preserve-env", *host)
    words = ("doctor", "--bootstrap", bootstrap, "--no-http", "--no-lan")
    done = await run(*words, home=folder / "home", prefix=prefix)
    found = {line["name"]: line for line in done.lines}
    nat, reached, cause = KINDS[kind]
    assert found["nat"]["details"]["kind"] == nat, kind
    assert cause in found["nat"]["cause"]
    assert found["port"]["result"] == reached, kind
    assert found["dht"]["result"] == "ok", kind
    assert found["dht"]["details"]["nodes"] >= 12
