"""A reader whose disk fails in the middle: who waits is told, nothing is half true, and it goes on later."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2prss.errors import DiskFullError, StorageError
from p2prss.log.disk import Disk
from p2prss.log.store import Store
from p2prss.units import KIB
from tests.fakes.failing_disk import FailingDisk
from tests.robust.conftest import BLOCKS, Scene, let_time_fly

CALLS = 12  # disk calls of a download as made here; a failure at each of them is tried


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FailingDisk) -> Iterator[Store]:
    with Store.open(tmp_path / "reader", disk=disk) as opened:
        yield opened


@pytest.mark.parametrize("call", range(1, CALLS + 1))
async def test_a_download_fails_with_its_disk_and_goes_on_when_it_is_well_again(
    call: int, store: Store, disk: FailingDisk, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    let_time_fly(mock_clock)
    scene = Scene(nursery, store)
    log = scene.core.log
    disk.fail_at = {disk.calls + call, disk.calls + call + 1}
    failures = 0
    with trio.fail_after(300):
        scene.connect_honest()
        while True:
            try:
                await scene.download()
                break
            except DiskFullError:
                failures += 1
                assert log.verify().clean
                await trio.sleep(1.0)
    assert log.verify().clean
    assert not scene.ended
    assert failures or disk.calls < max(disk.fail_at)  # few calls are enough for such a small log
    store.close()
    with Store.open(Path(store_path(store))) as again:
        assert again.open_log(log.key).get_range(0, BLOCKS) == scene.blocks


def store_path(store: Store) -> Path:
    assert store._home is not None
    return store._home.path


async def test_room_that_is_made_is_used(
    store: Store, disk: FailingDisk, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    let_time_fly(mock_clock)
    scene = Scene(nursery, store)
    disk.room = 100 * KIB
    with trio.fail_after(300):
        scene.connect_honest()
        with pytest.raises(DiskFullError, match="No space left"):
            await scene.download()
        held = scene.core.held_total
        assert held < BLOCKS
        await trio.sleep(20)  # it tries again by itself, again in vain
        assert scene.core.log.verify().clean
        assert scene.core.held_total >= held
        disk.room = None
        await trio.sleep(20)
        await scene.download()
    assert scene.core.log.verify().clean
    assert not scene.ended


async def test_one_reader_after_another_gets_its_block_once_the_disk_is_well(
    store: Store, disk: FailingDisk, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """Nothing is fetched in the background here: nobody but the next reader can find out."""
    let_time_fly(mock_clock)
    scene = Scene(nursery, store, eager=False)
    disk.error = errno.EIO
    with trio.fail_after(300):
        scene.connect_honest()
        await scene.core.wait_length(BLOCKS)
        disk.fail_at = set(range(disk.calls + 1, disk.calls + 1000))
        for _ in range(2):
            with pytest.raises(StorageError, match="Input/output error"):
                await scene.core.get(7)
        assert not scene.core.has(7)
        disk.fail_at = set()
        await trio.sleep(6)
        assert await scene.core.get(7) == scene.blocks[7]
        pieces = [block async for block in scene.core.read(30, 34)]
    assert pieces == scene.blocks[30:34]
    assert not scene.ended


class UnreadableDisk(Disk):
    """A disk whose data cannot be read for a while."""

    broken = False

    def read(self, fd: int, size: int, offset: int) -> bytes:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(fd, size, offset)


async def test_a_seeder_that_cannot_read_says_so_and_stays(
    tmp_path: Path, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """Its peers go elsewhere; what it can read again later it serves to those who ask then."""
    let_time_fly(mock_clock)
    disk = UnreadableDisk()
    with Store.open(tmp_path / "middle", disk=disk) as store:
        scene = Scene(nursery, store)
        with trio.fail_after(300):
            scene.connect_honest()
            await scene.download()
            disk.broken = True
            last = Scene(nursery)
            last.connect(scene.reader)
            await last.core.wait_length(BLOCKS)
            last.core.session.patience = 5.0
            with pytest.raises(Exception, match="did not come"):
                await last.core.get(3)
            last.connect_honest()
            await last.download()
            disk.broken = False
            assert await scene.core.get(3) == scene.blocks[3]
    assert not scene.reader.drops
