"""Bytes reach a file in their order and at their place, however they are cut into writes."""

import os
from pathlib import Path

import pytest

from p2prss.log.disk import IOV_MAX, WRITE_BYTES, Disk


@pytest.mark.parametrize("offset", [0, 1, WRITE_BYTES - 1, WRITE_BYTES, 3 * WRITE_BYTES + 5])
@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [WRITE_BYTES] * 3,
        [WRITE_BYTES - 1, 1, 1, WRITE_BYTES],
        [3 * WRITE_BYTES + 7, 0, 2],
        [1] * (2 * IOV_MAX + 1),
        [100] * IOV_MAX,
    ],
    ids=["nothing", "empty", "whole", "odd", "large", "tiny", "small"],
)
def test_buffers_are_written_one_after_the_other(tmp_path: Path, sizes: list[int], offset: int) -> None:
    buffers = [os.urandom(size) for size in sizes]
    path = tmp_path / "data"
    path.touch()
    fd = os.open(path, os.O_RDWR)
    try:
        Disk().write(fd, buffers, offset)
        data = b"".join(buffers)
        assert Disk().read(fd, len(data) + 1, offset) == data
        assert path.stat().st_size == (offset + len(data) if data else 0)
    finally:
        os.close(fd)
