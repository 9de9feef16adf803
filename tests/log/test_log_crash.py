"""``kill -9`` at any instant: what was reported as done is there, and all that is there verifies."""

import random
import subprocess
import sys
import time
from pathlib import Path

from p2prss.log.store import Store

PROGRAM = """
import os, sys
from pathlib import Path
from p2prss.log.store import Store
from tests.fakes.log_pair import fetch, upgrade
home = Path(sys.argv[1])
with Store.open(home / "writer") as writer, Store.open(home / "reader") as reader:
    log = writer.create("a log")
    copy = reader.open_log(log.key)
    while True:
        start = log.length
        blocks = [b"%d " % index * (index % 500 + 1) for index in range(start, start + 24)]
        log.append(blocks)
        if start % 5 == 0 and start:
            log.truncate(log.length - 7)
        upgrade(log, copy)
        first = max(0, start - 48)
        fetch(log, copy, range(first, log.length, 3), batch=16)
        if start % 7 == 0:
            log.clear(max(0, start - 400), max(0, start - 300))
        os.write(1, b"%d %d %d\\n" % (log.fork, log.length, first))
"""
KILLS = 15


def test_nothing_reported_is_lost_and_nothing_half_true_is_left(tmp_path: Path) -> None:
    random_times = random.Random(7)
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random_times.uniform(0, 0.12))
        child.kill()
        lines = child.stdout.read().splitlines()
        child.stdout.close()
        child.wait()
        with Store.open(tmp_path / "writer") as writer, Store.open(tmp_path / "reader") as reader:
            log = writer.create("a log")
            copy = reader.open_log(log.key)
            for one in (log, copy):
                report = one.verify()
                assert report.clean, report
            for index in range(copy.length):
                block = copy.get(index)
                assert block is None or block == b"%d " % index * (index % 500 + 1)
            if lines:
                fork, length, first = map(int, lines[-1].split())
                assert log.fork >= fork
                assert copy.fork >= fork
                if log.fork == fork:
                    assert log.bitfield.all_set(first, length)
                if copy.fork == fork:
                    assert all(copy.has(index) for index in range(first, length, 3))
