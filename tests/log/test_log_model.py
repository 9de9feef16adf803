"""A log on a disk, and a sparse reader of it, behave like a plain list whatever is done to them."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2prss.log.log import Log
from p2prss.log.store import Store
from tests.fakes.log_pair import fetch, upgrade

Blocks = st.lists(st.binary(max_size=300), max_size=40)


class LogModel(RuleBasedStateMachine):
    """``blocks`` is the writer's log, None where a block was cleared; ``copy`` is what the reader holds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.blocks: list[bytes | None] = []
        self.fork = 0
        self.copy: list[bytes | None] = []
        self.copy_fork = 0
        self._open()

    def _open(self) -> None:
        self.store, self.reader_store = Store.open(self.folder / "w"), Store.open(self.folder / "r")
        self.log = self.store.create("a log")
        self.reader = self.reader_store.open_log(self.log.key)

    def teardown(self) -> None:
        self.store.close()
        self.reader_store.close()
        shutil.rmtree(self.folder)

    @initialize(blocks=Blocks)
    def begin(self, blocks: list[bytes]) -> None:
        self.append(blocks)

    @rule(blocks=Blocks)
    def append(self, blocks: list[bytes]) -> None:
        self.log.append(blocks)
        self.blocks += blocks

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        length = data.draw(st.integers(0, len(self.blocks)))
        self.log.truncate(length)
        del self.blocks[length:]
        self.fork += 1

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.blocks)))
        stop = data.draw(st.integers(start, len(self.blocks) + 3))
        self.log.clear(start, stop)
        self.blocks[start:stop] = [None] * len(self.blocks[start:stop])

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.reader_store.close()
        self._open()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @precondition(lambda self: self.blocks)
    @rule()
    def bring_the_reader_up_to_date(self) -> None:
        if self.fork == self.copy_fork and len(self.copy) == len(self.blocks):
            return
        applied = upgrade(self.log, self.reader)
        assert applied.upgraded
        if self.fork != self.copy_fork:
            assert applied.truncated_to is not None
            del self.copy[applied.truncated_to :]
            self.copy_fork = self.fork
        self.copy += [None] * (len(self.blocks) - len(self.copy))

    @precondition(lambda self: self.copy and self.copy_fork == self.fork)
    @rule(data=st.data())
    def fetch_some(self, data: st.DataObject) -> None:
        held = [
            index for index, block in enumerate(self.blocks) if block is not None and index < len(self.copy)
        ]
        if held:
            indexes = data.draw(st.lists(st.sampled_from(held), max_size=10))
            fetch(self.log, self.reader, indexes, batch=4)
            for index in indexes:
                self.copy[index] = self.blocks[index]

    @precondition(lambda self: self.copy)
    @rule(data=st.data())
    def clear_at_the_reader(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.copy)))
        self.reader.clear(start, start + 5)
        self.copy[start : start + 5] = [None] * len(self.copy[start : start + 5])

    @invariant()
    def both_are_like_the_lists(self) -> None:
        same(self.log, self.blocks, self.fork)
        same(self.reader, self.copy, self.copy_fork)


def same(log: Log, blocks: list[bytes | None], fork: int) -> None:
    assert (log.length, log.fork) == (len(blocks), fork)
    assert [log.get(index) for index in range(len(blocks) + 2)] == [*blocks, None, None]
    gap = next((index for index, block in enumerate(blocks) if block is None), len(blocks))
    assert log.contiguous_length == gap
    assert [log.has(index) for index in range(len(blocks))] == [block is not None for block in blocks]
    for run in log.bitfield.runs(0, log.length):
        assert log.get_range(run.start, run.stop) == blocks[run.start : run.stop]
    report = log.verify()
    assert report.clean, report


LogModel.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestLogModel = LogModel.TestCase
