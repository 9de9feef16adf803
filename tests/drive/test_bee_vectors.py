"""Trees recorded from the reference: written byte for byte alike, read alike, and malformed ones refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from p2prss.drive.bee import PLAIN, Bee, BeeBatch, BeeReader
from p2prss.drive.btree import BeeEntry, Header
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import KeyRange, Sub
from tests.fakes.memory_core import MemoryCore

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "drive.json").read_text())
CASES = {case["name"]: case for case in VECTORS["bee"]}


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def row(entry: BeeEntry | None) -> list[object] | None:
    if entry is None:
        return None
    return [entry.key.hex(), None if entry.value is None else entry.value.hex(), entry.seq]


def header_of(case: dict[str, Any]) -> Header:
    metadata = case["header_metadata"]
    if metadata is None:
        return PLAIN
    return Header(unhex(metadata["contentFeed"]), unhex(metadata["userData"]))


def open_bee(case: dict[str, Any]) -> Bee:
    return Bee(MemoryCore([bytes.fromhex(block) for block in case["blocks"]]))


async def listing(bee: BeeReader, **options: Any) -> list[object]:
    return [row(entry) async for entry in bee.range(**options)]


async def apply(target: Bee | BeeBatch, op: list[Any]) -> None:
    match op:
        case ["put", key, value]:
            await target.put(bytes.fromhex(key), unhex(value))
        case ["del", key]:
            await target.delete(bytes.fromhex(key))
        case ["cas_if_different", key, value]:
            entry = await target.get(bytes.fromhex(key))
            if entry is None or entry.value != unhex(value):
                await target.put(bytes.fromhex(key), unhex(value))
        case ["sub_put", subs, key, value]:
            sub = Sub.named(*(name.encode() for name in subs))
            await target.put(sub.key(bytes.fromhex(key)), unhex(value))
        case _:
            raise AssertionError(op)


@pytest.mark.parametrize("name", CASES)
async def test_the_same_operations_write_the_same_blocks(name: str) -> None:
    case = CASES[name]
    core = MemoryCore()
    bee = Bee(core, header=header_of(case))
    for op in case["ops"]:
        if op[0] == "check":
            assert await listing(bee) == case["versions"][str(op[1])]
        elif op[0] == "batch":
            async with bee.batch() as batch:
                for inner in op[1]:
                    await apply(batch, inner)
        else:
            await apply(bee, op)
    assert [block.hex() for block in core.blocks] == case["blocks"]
    assert core.byte_length == case["byte_length"]


@pytest.mark.parametrize("name", CASES)
async def test_every_recorded_version_reads_alike(name: str) -> None:
    case = CASES[name]
    bee = open_bee(case)
    for version, rows in case["versions"].items():
        snapshot = bee.checkout(int(version))
        assert await listing(snapshot) == rows
        assert await listing(snapshot, reverse=True) == rows[::-1]
        for key, *_ in rows:
            assert (row(await snapshot.get(bytes.fromhex(key)))) in rows


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "history" in case])
async def test_history_and_diff(name: str) -> None:
    case = CASES[name]
    bee = open_bee(case)
    history = []
    async for change in bee.history():
        key, value, seq = row(change.entry) or [None] * 3
        history.append(["del" if change.deleted else "put", seq, key, value])
    assert history == case["history"]
    diff = [[row(left), row(right)] async for left, right in bee.diff(case["diff_against"])]
    assert diff == case["diff"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "ranges" in case])
async def test_ranges(name: str) -> None:
    case = CASES[name]
    bee = open_bee(case)
    for wanted in case["ranges"]:
        keys = KeyRange(**{bound: bytes.fromhex(key) for bound, key in wanted["range"].items()})
        entries = [entry.key.decode() async for entry in bee.range(keys, **wanted["opts"])]
        assert entries == wanted["keys"]


async def test_unbounded_ranges_of_subs_follow_the_rule_of_the_reference() -> None:
    case = CASES["subs"]
    bee = open_bee(case)
    for wanted in case["sub_ranges"]:
        sub = Sub.named(*(name.encode() for name in wanted["sub"]))
        keys = [sub.strip(entry.key).hex() async for entry in bee.range(sub.inner_range())]
        assert keys == wanted["keys"]


async def test_a_deleted_key_is_not_found_where_the_reference_finds_it() -> None:
    case = CASES["stale-get"]
    assert case["reference_get"] is not None
    assert await open_bee(case).get(bytes.fromhex(case["absent_key"])) is None


@pytest.mark.parametrize("case", VECTORS["bee_invalid"], ids=lambda case: case["name"])
async def test_malformed_trees_are_refused(case: dict[str, Any]) -> None:
    bee = open_bee(case).checkout(case["version"])
    with pytest.raises(DriveError):
        await listing(bee)
    with pytest.raises(DriveError):
        await listing(bee, reverse=True)


@pytest.mark.parametrize("case", VECTORS["bee_invalid"], ids=lambda case: case["name"])
async def test_a_look_up_in_a_malformed_tree_ends(case: dict[str, Any]) -> None:
    bee = open_bee(case).checkout(case["version"])
    for key in (b"", b"a", b"m", b"zz"):
        try:
            await bee.get(key)
        except DriveError:
            continue


def test_sub_encoder_keys_and_ranges() -> None:
    vectors = VECTORS["sub_encoder"]
    files = Sub.named(b"files")
    assert files.key(vectors["files_key"]["in"].encode()).hex() == vectors["files_key"]["out"]
    assert Sub.named(b"files", b"inner").key(b"k").hex() == vectors["nested_key"]
    assert Sub.named(b"").key(b"k").hex() == vectors["empty_prefix_key"]
    for sub, keys, wanted in (
        (files, KeyRange(), vectors["files_range_all"]),
        (files, KeyRange(gt=b"/docs/", lt=b"/docs0"), vectors["files_range_folder"]["out"]),
        (Sub.named(b"files", b"inner"), KeyRange(), vectors["nested_range_all"]),
    ):
        out = sub.range(keys)
        for bound in ("gt", "gte", "lt", "lte"):
            assert getattr(out, bound) == unhex(wanted[bound])
