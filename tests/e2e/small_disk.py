"""A file system of a size of its own, in a mount namespace that ends with the test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_AS_ROOT: Final = (("unshare", "--mount"), ("nsenter", "--mount"))
_AS_USER: Final = (
    ("unshare", "--mount", "--user", "--map-root-user"),
    ("nsenter", "--mount", "--user", "--preserve-credentials"),
)
_KEEPER: Final = 'mount -t tmpfs -o size=$1 tmpfs "$2" && echo mounted && exec cat'


class SmallDisk:
    """Programs see it at ``path`` when they are started with ``prefix``; the test itself at ``inside``."""

    def __init__(self, path: Path, keeper: int, enter: tuple[str, ...]) -> None:
        self.path = path
        self.inside = Path(f"/proc/{keeper}/root{path}")
        self.prefix = (enter[0], "--target", str(keeper), *enter[1:])

    def remount(self, options: str) -> None:
        """``size=…`` gives it another size, ``ro`` makes it read-only."""
        command = [*self.prefix, "mount", "-o", f"remount,{options}", str(self.path)]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Put a file system of ``size`` bytes on a folder.

    Skips the test where neither root's nor anybody's own namespaces may mount one.
    """
    folder.mkdir()
    reasons = []
    for unshare, enter in (_AS_ROOT, _AS_USER):
        command = [*unshare, "sh", "-c", _KEEPER, "sh", str(size), str(folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as keeper:
            assert keeper.stdout is not None
            assert keeper.stderr is not None
            if keeper.stdout.readline() == b"mounted\n":
                yield SmallDisk(folder, keeper.pid, enter)
                return
            reasons.append(keeper.stderr.read().decode().strip())
    pytest.skip(f"nothing can be mounted here: {reasons}")
