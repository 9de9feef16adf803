"""The specification says what the code does: examples, limits, tables and references are recomputed.

An example is a fenced block of the kind ``example NAME``: lines ``name = value``, a value going on in
indented lines; in hexadecimal values blanks and ``|`` are for the eye, and two blanks before ``#`` begin a
remark. A function of that name in ``tests/spec`` is given the lines it asks for and says what the others
must be.

``python tests/test_spec.py`` writes ``spec/09-limits.md`` anew and fills in values that are still ``?``.
"""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import pytest
import trio

ROOT: Final = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from p2prss import errors, units  # noqa: E402
from p2prss.crypto import namespaces  # noqa: E402
from p2prss.crypto.keys import CoreKey  # noqa: E402
from p2prss.drive.drive import Drive  # noqa: E402
from p2prss.drive.errors import DriveError  # noqa: E402
from p2prss.drive.paths import normalize_path, resolve_link  # noqa: E402
from p2prss.feed.archive import records  # noqa: E402
from p2prss.feed.archive.archive import FeedArchive  # noqa: E402
from p2prss.feed.document.names import PLACES  # noqa: E402
from p2prss.log import database  # noqa: E402
from p2prss.node import events  # noqa: E402
from p2prss.replication.events import DropReason  # noqa: E402
from p2prss.serve.listings import OneShow  # noqa: E402
from p2prss.serve.rss import FeedAnswers  # noqa: E402
from p2prss.serve.windows import Window  # noqa: E402
from p2prss.wire import mux_channel  # noqa: E402
from p2prss.wire.messages import (  # noqa: E402
    MESSAGES,
)
from tests.fakes.studio import Studio  # noqa: E402
from tests.spec import examples_drive, examples_log, examples_net, examples_wire  # noqa: E402, F401  (they register themselves)
from tests.spec.limits import limits_page, modules  # noqa: E402
from tests.spec.reading import (  # noqa: E402
    EXAMPLES,
    FILES,
    SPEC,
    Given,
    column,
    fenced,
    headings,
    parse_values,
    plain_hex,
    plain_text,
    table,
)

LIMITS: Final = SPEC / "09-limits.md"
MAX_LINE: Final = 120  # characters; tables and examples may be longer


# ---- the tests


def all_examples() -> Iterator[Any]:
    for path in FILES:
        for line, name, content in fenced(path, "example"):
            yield pytest.param(name, content, id=f"{path.stem}:{line}:{name}")


@pytest.mark.parametrize(("name", "content"), list(all_examples()))
def test_an_example_is_what_the_code_computes(name: str, content: str) -> None:
    given = Given(parse_values(content))
    found = {key: plain_text(value) for key, value in EXAMPLES[name](given).items()}
    written = {key: value for key, value in given.values.items() if key not in given.asked}
    assert set(written) <= set(found), "lines that nothing checks"
    for key, value in written.items():
        is_hex = re.fullmatch("[0-9a-f]*", found[key]) is not None
        assert (plain_hex(value) if is_hex else " ".join(value.split())) == found[key], key


def test_the_examples_of_the_connection_are_those_recorded_from_the_reference() -> None:
    recorded = json.loads((ROOT / "tests" / "vectors" / "wire.json").read_text(encoding="utf-8"))
    handshake, keys = recorded["noise"][0], recorded["capability"]
    expected = [message["hex"] for message in handshake["messages"]] + [handshake["handshake_hash"]]
    expected += [recorded["secret_stream"][0]["stream_ids"]["initiator"]]
    expected += [keys[name] for name in ("capability_initiator", "capability_responder", "core_key")]
    text = "".join((SPEC / name).read_text("utf-8") for name in ("04-connection.md", "05-replication.md"))
    assert [value for value in expected if value not in re.sub(r"\s", "", text)] == []


def test_there_are_examples_of_every_kind() -> None:
    used = {name for path in FILES for _, name, _ in fenced(path, "example")}
    assert used == set(EXAMPLES)


_REFERENCE: Final = re.compile(r'spec/(\d\d-[a-z]+)(?:\.md)?((?:,\s+"[^"\n]+")*)')


def test_every_reference_to_the_specification_resolves() -> None:
    known = {path.stem: headings(path) for path in FILES}
    missing = []
    finished = [ROOT / (name.replace(".", "/") + ".py") for name in modules()]
    sources = [*finished, *ROOT.glob("scripts/*.py"), *ROOT.glob("*.md")]
    for path in [*sources, *FILES]:
        for file, quoted in _REFERENCE.findall(path.read_text(encoding="utf-8")):
            if file not in known:
                missing.append(f"{path.name}: spec/{file}")
                continue
            named = re.findall(r'"([^"]+)"', quoted)
            missing += [f'{path.name}: spec/{file}, "{one}"' for one in named if one not in known[file]]
    assert not missing


def test_links_inside_the_specification_resolve() -> None:
    anchors = {
        path.name: {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in headings(path)}
        for path in FILES
    }
    for path in FILES:
        for file, anchor in re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", path.read_text("utf-8")):
            assert (file or path.name) in anchors, (path.name, file)
            assert not anchor or anchor in anchors[file or path.name], (path.name, file, anchor)


def test_lines_are_short_enough_to_read() -> None:
    for path in FILES:
        inside = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            inside ^= line.startswith("```")
            if not inside and not line.startswith("|"):
                assert len(line) <= MAX_LINE, f"{path.name}:{number}"


# ---- tables that repeat what the code says


def test_the_table_of_namespaces() -> None:
    for name, purpose, index, value in table("02-crypto.md", "Namespaces"):
        constant = getattr(namespaces, name)
        assert constant.hex() == value, name
        assert namespaces.namespace(purpose, int(index)) == constant, name
    written = {name for name in vars(namespaces) if name.isupper()}
    assert set(column("02-crypto.md", "Namespaces")) == written


def test_the_table_of_messages() -> None:
    numbers = [int(number) for number in column("05-replication.md", "Messages")]
    names = column("05-replication.md", "Messages", 1)
    assert numbers == list(MESSAGES)
    kinds = [kind.__name__.lower().removesuffix("message") for kind in MESSAGES.values()]
    assert [name.lower() for name in names] == kinds


def test_the_table_of_channel_states() -> None:
    rows = {(state, step): after for state, step, after, *_ in table("04-connection.md", "Channel states")}
    assert rows == {
        (state.value, step.value): after.value for (state, step), after in mux_channel.TRANSITIONS.items()
    }


def test_the_table_of_drop_reasons() -> None:
    assert set(column("05-replication.md", "Hostile peers", 0)) >= {reason.value for reason in DropReason}


def test_the_table_of_exit_codes() -> None:
    written = {
        int(code): names.split(", ") for code, names, _ in table("00-overview.md", "Exit codes") if names
    }
    found: dict[int, list[str]] = {}
    for name, kind in {**vars(errors), "DriveError": DriveError}.items():
        if isinstance(kind, type) and issubclass(kind, errors.P2prssError):
            found.setdefault(kind.exit_code, []).append(name)
    for code, names in found.items():
        assert set(written[code]) <= set(names), code
    assert set(found) <= set(written)


def test_the_tables_of_events() -> None:
    rows = table("00-overview.md", "Events")
    for row in rows:
        kind = getattr(events, row[0].capitalize())
        required = [field.name for field in msgspec.structs.fields(kind) if field.required]
        optional = [field.name for field in msgspec.structs.fields(kind) if not field.required]
        assert row[1].split(", ") == required, row[0]
        assert [name for name in row[2].split(", ") if name] == optional, row[0]
    kinds = {kind.__name__.lower() for kind in events.Event.__subclasses__()}
    assert {row[0] for row in rows} == kinds


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("p2prss.json", records.FeedInfo),
        ("Capture policy", records.CapturePolicy),
        ("Item metadata", records.ItemRecord),
        ("Assets", records.Asset),
    ],
)
def test_the_tables_of_json_members(heading: str, struct: type[msgspec.Struct]) -> None:
    required = {field.encode_name: field.required for field in msgspec.structs.fields(struct)}
    rows = {row[0]: row[2] == "yes" for row in table("08-feeds.md", heading)}
    assert rows == required


def test_the_table_of_places() -> None:
    rows = {row[0]: tuple(row[1:5]) for row in table("08-feeds.md", "Assets in the XML")}
    assert rows == {
        name: (place.role.value, place.url or "(text)", place.length, place.type)
        for name, place in PLACES.items()
    }


def test_the_tables_of_paths() -> None:
    for given, result in table("06-drive.md", "Paths"):
        if result == "error":
            with pytest.raises(errors.UsageError):
                normalize_path(given)
        else:
            assert normalize_path(given) == result
    for link, target, result in table("06-drive.md", "Symbolic links"):
        if result == "error":
            with pytest.raises(DriveError):
                resolve_link(link, target)
        else:
            assert resolve_link(link, target) == result


def test_the_table_of_database_tables() -> None:
    names = re.findall(r"CREATE TABLE (\w+)", database.SCHEMA)
    assert column("00-overview.md", "Tables") == names


_UNITS: Final = {"": 1, "KiB": units.KIB, "MiB": units.MIB, "GiB": units.GIB, "MB": units.MB, "GB": units.GB}


@pytest.mark.parametrize(
    "path", [path for path in FILES if "Bounds" in headings(path)], ids=lambda path: path.stem
)
def test_the_tables_of_bounds(path: Path) -> None:
    for constant, value, _ in table(path.name, "Bounds"):
        module, _, name = constant.rpartition(".")
        number, _, unit = value.partition(" ")
        found = getattr(importlib.import_module(f"p2prss.{module}"), name)
        assert found == int(number) * _UNITS[unit], constant


# ---- the worked feed


def xml_blocks() -> dict[str, str]:
    blocks: dict[str, str] = {}
    for kind in ("xml", "json"):
        blocks |= {name: content for _, name, content in fenced(SPEC / "08-feeds.md", kind) if name}
    return blocks


@dataclass
class WorkedFeed:
    """Satisfies ``serve.library.ServedFeed``."""

    key: CoreKey
    drive: Drive
    archive: FeedArchive
    slug: str = "worked"
    title: str = "Worked"
    peers: int = 0


async def worked_feed(folder: Path) -> dict[str, str]:
    """Mirror the source of the worked example; what stands in the drive, and what is served."""
    source = folder / "source"
    source.mkdir()
    blocks = xml_blocks()
    (source / "feed.xml").write_text(blocks["source"] + "\n", encoding="utf-8")
    (source / "one.mp3").write_bytes(b"ID3 not really audio")
    studio = Studio(folder / "scratch")
    await studio.update(str(source / "feed.xml"))
    (item,) = await studio.archive.items()
    drive = studio.drive
    found: dict[str, str] = {}
    for name, path in (("channel", "/channel.xml"), ("item", item.path), ("info", "/p2prss.json")):
        data = await drive.get(path)
        assert data is not None
        found[name] = data.decode()
    entry = await drive.entry(item.path)
    assert entry is not None
    found["metadata"] = json.dumps(entry.metadata, indent=1)
    found["paths"] = "\n".join([one.path async for one in drive.entries()])
    served = WorkedFeed(drive.key, drive, studio.archive)
    answer = await FeedAnswers().answer(OneShow(served), Window(), "http://127.0.0.1:7737", {})
    assert answer is not None
    found["served"] = bytes(answer.body).decode()
    return found


def normal(name: str, text: str) -> object:
    if name in ("info", "metadata"):
        value = json.loads(text)
        value.pop("generator", None)  # holds our version
        return value
    return text.strip()


async def test_the_worked_feed_is_what_the_mirror_writes(tmp_path: Path) -> None:
    found = await worked_feed(tmp_path)
    blocks = xml_blocks()
    (paths,) = [content for _, name, content in fenced(SPEC / "08-feeds.md", "text") if name == "paths"]
    for name, text in found.items():
        written = paths if name == "paths" else blocks[name]
        assert normal(name, written) == normal(name, text), name


# ---- limits


# ---- limits


def test_the_limits_are_those_of_the_code() -> None:
    written = LIMITS.read_text(encoding="utf-8").splitlines()
    found = limits_page().splitlines()
    hint = "run `python tests/test_spec.py` and read what changed"
    assert [line for line in found if line not in written] == [], hint
    assert [line for line in written if line not in found] == [], hint
    assert written == found, hint


# ---- filling in


def fill(path: Path) -> None:
    """Write the values of examples that are still ``?``."""
    text = path.read_text(encoding="utf-8")
    for _, name, content in list(fenced(path, "example")):
        if "= ?" not in content:
            continue
        found = EXAMPLES[name](Given(parse_values(content)))
        filled = content
        for key, value in found.items():
            written = plain_text(value)
            pieces = [written[place : place + 96] for place in range(0, len(written), 96)] or [""]
            line = rf"^({re.escape(key)}\s*=) \?$"
            filled = re.sub(line, r"\1 " + "\n    ".join(pieces), filled, flags=re.MULTILINE)
        text = text.replace(content, filled)
    path.write_text(text, encoding="utf-8")


def fill_worked_feed() -> None:
    """Write the blocks of the worked feed that are still ``?``."""
    path = SPEC / "08-feeds.md"
    with TemporaryDirectory() as folder:
        found = trio.run(worked_feed, Path(folder))
    text = path.read_text(encoding="utf-8")
    for name, content in found.items():
        opening = re.search(rf"```\w+ {name}\n", text)
        if opening is not None and text.startswith("?\n", opening.end()):
            text = f"{text[: opening.end()]}{content.strip()}{text[opening.end() + 1 :]}"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    LIMITS.write_text(limits_page(), encoding="utf-8")
    for file in FILES:
        fill(file)
    fill_worked_feed()
