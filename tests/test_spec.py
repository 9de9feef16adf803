"""The specification says what the code does: examples, limits, tables and references are recomputed.

An example is a fenced block of the kind ``example NAME``: lines ``name = value``, a value going on in
indented lines; in hexadecimal values blanks and ``|`` are for the eye, and two blanks before ``#`` begin a
remark. A function of that name below is given the lines it asks for and says what the others must be.

``python tests/test_spec.py`` writes ``spec/09-limits.md`` anew and fills in values that are still ``?``.
"""

import ast
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import pytest
import trio

ROOT: Final = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import p2prss  # noqa: E402  (needs the root in sys.path, as all that follow)
from p2prss import errors, units  # noqa: E402
from p2prss.codec import compact_extra, protobuf, z32  # noqa: E402
from p2prss.codec.compact import Reader, Writer  # noqa: E402
from p2prss.crypto import namespaces  # noqa: E402
from p2prss.crypto.block_cipher import BlockCipher  # noqa: E402
from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace, derive_key_pair  # noqa: E402
from p2prss.crypto.hashes import discovery_key  # noqa: E402
from p2prss.crypto.key_text import format_key  # noqa: E402
from p2prss.crypto.keys import CoreKey, KeyPair  # noqa: E402
from p2prss.drive.bee import Bee  # noqa: E402
from p2prss.drive.blobs import decode_block_map  # noqa: E402
from p2prss.drive.btree import Header  # noqa: E402
from p2prss.drive.content import content_core, content_manifest  # noqa: E402
from p2prss.drive.core import Core  # noqa: E402
from p2prss.drive.drive import Drive  # noqa: E402
from p2prss.drive.errors import DriveError  # noqa: E402
from p2prss.drive.extension import Get, encode_hint  # noqa: E402
from p2prss.drive.paths import normalize_path, resolve_link  # noqa: E402
from p2prss.feed import model  # noqa: E402
from p2prss.feed.archive import FeedArchive  # noqa: E402
from p2prss.feed.names import PLACES  # noqa: E402
from p2prss.log import database, flat_tree  # noqa: E402
from p2prss.log.authority import Authority  # noqa: E402
from p2prss.log.bitfield import Bitfield  # noqa: E402
from p2prss.log.manifest import Manifest, core_key  # noqa: E402
from p2prss.log.merkle import Head, TreeBatch, leaf_hash  # noqa: E402
from p2prss.log.proof import make_proof  # noqa: E402
from p2prss.log.proof_parts import TreeNode  # noqa: E402
from p2prss.log.verify import KnownLog, verify_proof  # noqa: E402
from p2prss.net.exchange import PROTOCOL  # noqa: E402
from p2prss.node import events  # noqa: E402
from p2prss.replication.events import DropReason  # noqa: E402
from p2prss.replication.node_count import known_level  # noqa: E402
from p2prss.serve.rss import FeedAnswers, Window  # noqa: E402
from p2prss.wire import mux  # noqa: E402
from p2prss.wire.capability import capability  # noqa: E402
from p2prss.wire.messages import (  # noqa: E402
    MESSAGES,
    BitfieldMessage,
    Cancel,
    Data,
    Message,
    NoData,
    NoDataReason,
    Range,
    ReplicationHandshake,
    Request,
    Sync,
    Want,
    decode_message,
)
from p2prss.wire.mux import Mux  # noqa: E402
from p2prss.wire.noise import NoiseHandshake, Pattern  # noqa: E402
from p2prss.wire.secret_stream import FrameOpener, FrameSealer, stream_id  # noqa: E402
from tests.fakes.memory_core import MemoryCore, as_core  # noqa: E402
from tests.fakes.studio import Studio  # noqa: E402

SPEC: Final = ROOT / "spec"
LIMITS: Final = SPEC / "09-limits.md"
FILES: Final = sorted(SPEC.glob("*.md"))
MAX_LINE: Final = 120  # characters; tables and examples may be longer
UNFINISHED: Final = ("p2prss.net.udx.", "p2prss.net.dht.")  # chapter 7 and the limits get them when they work


# ---- reading the specification


class Given:
    """The lines of an example; what is asked for is an input, the rest must be computed."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.asked: set[str] = set()

    def text(self, name: str) -> str:
        self.asked.add(name)
        return self.values[name]

    def number(self, name: str) -> int:
        return int(self.text(name))

    def hex(self, name: str) -> bytes:
        return bytes.fromhex(plain_hex(self.text(name)))

    def seed(self, name: str) -> KeyPair:
        return KeyPair.from_seed(self.hex(name))

    def words(self, name: str) -> list[str]:
        return self.text(name).split()


Outputs = Mapping[str, bytes | str | int]
EXAMPLES: dict[str, Callable[[Given], Outputs]] = {}


def example(name: str) -> Callable[[Callable[[Given], Outputs]], Callable[[Given], Outputs]]:
    def register(function: Callable[[Given], Outputs]) -> Callable[[Given], Outputs]:
        EXAMPLES[name] = function
        return function

    return register


def plain_hex(text: str) -> str:
    return re.sub(r"\s*#.*", "", text).replace("|", "").replace(" ", "").replace("\n", "")


def plain_text(value: bytes | str | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def fenced(path: Path, kind: str) -> Iterator[tuple[int, str, str]]:
    """The fenced blocks of a kind: line number, the rest of the first line, content."""
    start, name = 0, ""
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if start:
            if line.startswith("```"):
                yield start, name, "\n".join(lines)
                start = 0
            else:
                lines.append(line)
        elif line.startswith("```"):
            opening = line.removeprefix("```")
            if opening.partition(" ")[0] == kind:
                start, name, lines = number, opening.partition(" ")[2], []


def parse_values(content: str) -> dict[str, str]:
    values: dict[str, str] = {}
    last = ""
    for line in content.splitlines():
        if line.startswith(" ") and last:
            values[last] += "\n" + line.strip()
        else:
            name, _, value = line.partition("=")
            last = name.strip()
            values[last] = value.strip()
    return values


def table(file: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head; code marks are taken off."""
    lines = (SPEC / file).read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(heading)}", line))
    rows: list[list[str]] = []
    for line in lines[start + 1 :]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([cell.strip().replace("\\|", "|").replace("`", "") for cell in cells])
        elif rows:
            break
    return rows[2:]


def column(file: str, heading: str, number: int = 0) -> list[str]:
    return [row[number] for row in table(file, heading)]


def headings(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE))


# ---- 01 encoding


@example("uint")
def _uint(given: Given) -> Outputs:
    out = Writer()
    out.uint(given.number("value"))
    assert Reader(out.finish()).uint() == given.number("value")
    return {"bytes": out.finish()}


@example("lexint")
def _lexint(given: Given) -> Outputs:
    out = Writer()
    compact_extra.write_lexint(out, given.number("value"))
    return {"bytes": out.finish()}


@example("string")
def _string(given: Given) -> Outputs:
    out = Writer()
    out.string(given.text("text"))
    return {"bytes": out.finish()}


@example("z32")
def _z32(given: Given) -> Outputs:
    text = z32.encode(given.hex("bytes"))
    assert z32.decode(text) == given.hex("bytes")
    return {"text": text}


@example("varint")
def _varint(given: Given) -> Outputs:
    return {"bytes": protobuf.encode_varint(given.number("value"))}


@example("bit words")
def _bit_words(given: Given) -> Outputs:
    bits = Bitfield()
    for index in given.words("set"):
        bits.set(int(index))
    return {"words": bits.words(0, given.number("count"))}


# ---- 02 crypto


@example("namespace")
def _namespace(given: Given) -> Outputs:
    return {"bytes": namespaces.namespace(given.text("name"), given.number("index"))}


@example("key pair")
def _key_pair(given: Given) -> Outputs:
    namespace = ROOT_NAMESPACE
    for name in given.words("namespace"):
        namespace = child_namespace(namespace, name)
    pair = derive_key_pair(given.hex("primary key"), namespace, given.text("name"))
    manifest = Manifest.single(pair.public_key)
    key = core_key(manifest)
    return {
        "namespace bytes": namespace,
        "public key": pair.public_key,
        "manifest": manifest.encode(),
        "core key": key,
        "core key text": format_key(key),
        "discovery key": discovery_key(key),
    }


@example("block encryption")
def _block_encryption(given: Given) -> Outputs:
    cipher = BlockCipher.for_core(CoreKey(given.hex("core key")), given.hex("encryption key"))
    stored = cipher.encrypt(given.number("index"), given.number("fork"), given.text("block").encode())
    assert cipher.decrypt(given.number("index"), stored) == given.text("block").encode()
    return {"stored": stored}


# ---- 03 log


@dataclass
class Grown:
    """A signed log in memory."""

    head: Head
    authority: Authority
    nodes: dict[int, TreeNode]
    blocks: list[bytes]


def grow(pair: KeyPair, blocks: list[bytes], fork: int = 0) -> Grown:
    manifest = Manifest.single(pair.public_key)
    authority = Authority(core_key(manifest), manifest)
    batch = TreeBatch(Head.empty(fork))
    for block in blocks:
        batch.append(block)
    head = batch.head(authority.sign(batch.head(), pair))
    assert authority.verify(head, head.signature)
    return Grown(head, authority, {node.index: node for node in batch.nodes}, blocks)


def grow_given(given: Given) -> Grown:
    return grow(given.seed("seed"), [word.encode() for word in given.words("blocks")])


@example("leaf")
def _leaf(given: Given) -> Outputs:
    return {"hash": leaf_hash(given.text("block").encode())}


@example("log")
def _log(given: Given) -> Outputs:
    grown = grow_given(given)
    manifest = grown.authority.manifest
    assert manifest is not None
    found: dict[str, bytes | str | int] = {
        f"node {index}": f"{node.size} {node.hash.hex()}" for index, node in grown.nodes.items()
    }
    return found | {
        "manifest": manifest.encode(),
        "core key": grown.authority.key,
        "roots": " ".join(str(root.index) for root in grown.head.roots),
        "tree hash": grown.head.tree_hash,
        "signable": grown.authority.signable(grown.head),
        "signature": grown.head.signature,
    }


@example("full roots")
def _full_roots(given: Given) -> Outputs:
    return {"roots": " ".join(map(str, flat_tree.full_roots(given.number("length"))))}


@example("upgrade order")
def _upgrade_order(given: Given) -> Outputs:
    order = flat_tree.upgrade_order(given.number("from"), given.number("to"))
    return {"nodes": " ".join(map(str, order))}


# ---- 04 connection


@example("noise xx")
def _noise_xx(given: Given) -> Outputs:
    ends = [
        NoiseHandshake(
            Pattern.XX,
            initiator=initiator,
            key_pair=given.seed(f"{name} static seed"),
            ephemeral_seed=given.hex(f"{name} ephemeral seed"),
        )
        for name, initiator in (("initiator", True), ("responder", False))
    ]
    messages = []
    for number in range(3):
        sender, receiver = ends if number % 2 == 0 else ends[::-1]
        messages.append(sender.send())
        receiver.receive(messages[-1])
    first, second = ends[0].result, ends[1].result
    assert first is not None
    assert second is not None
    assert (first.handshake_hash, first.send_key) == (second.handshake_hash, second.receive_key)
    header = given.hex("initiator stream header")
    identity = stream_id(first.handshake_hash, initiator=True)
    sealer = FrameSealer(first.send_key, header)
    plaintext = given.hex("plaintext")
    frame = bytes(sealer.seal([plaintext]))
    assert FrameOpener(second.receive_key, header).open(frame[3:]) == plaintext
    return {f"message {number}": message for number, message in enumerate(messages, 1)} | {
        "handshake hash": first.handshake_hash,
        "initiator send key": first.send_key,
        "initiator receive key": first.receive_key,
        "header frame": b"\x38\0\0" + identity + header,
        "data frame": frame,
        "keep-alive frame": bytes(sealer.seal([])),
    }


class Wire:
    """A mux whose frames are kept."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.mux = Mux(lambda parts: self.frames.append(b"".join(parts)), 2**24)


@example("mux")
def _mux(given: Given) -> Outputs:
    ours, theirs = Wire(), Wire()
    channel_id, handshake = given.hex("id"), given.hex("handshake")
    channel = ours.mux.open(PROTOCOL, channel_id, handshake)
    theirs.mux.receive(memoryview(ours.frames[0]))
    (opened,) = theirs.mux.events
    assert isinstance(opened, mux.RemoteOpen)
    assert (opened.id, opened.handshake) == (channel_id, handshake)
    theirs.mux.reject(opened)
    ours.mux.cork()
    channel.send(8, b"\1\0\3")
    channel.send(0, b"\7\0\3\0")
    ours.mux.uncork()
    channel.send(2, b"\5")
    channel.close()
    names = ("open", "batch", "message", "close")
    return dict(zip(names, ours.frames, strict=True)) | {"reject": theirs.frames[0]}


# ---- 05 replication


@example("capability")
def _capability(given: Given) -> Outputs:
    key, shared = CoreKey(given.hex("core key")), given.hex("handshake hash")
    first = capability(shared, initiator=True, core_key=key)
    return {
        "initiator": first,
        "responder": capability(shared, initiator=False, core_key=key),
        "channel handshake": ReplicationHandshake(first).encode(),
    }


MESSAGE_NAMES: Final[dict[str, type[Message]]] = {
    "sync": Sync,
    "cancel": Cancel,
    "noData": NoData,
    "want": Want,
    "bitfield": BitfieldMessage,
    "range": Range,
}


@example("message")
def _message(given: Given) -> Outputs:
    kind, *words = given.words("message")
    values: dict[str, Any] = {"uploading": False, "downloading": False} if kind == "sync" else {}
    for word in words:
        name, equals, value = word.partition("=")
        values[name] = True if not equals else bytes.fromhex(value) if name == "words" else int(value)
    if "reason" in values:
        values["reason"] = NoDataReason(values["reason"])
    message = MESSAGE_NAMES[kind](**values)
    payload = b"".join(message.encode_parts())
    assert decode_message(message.TYPE, payload) == message
    return {"type": message.TYPE, "payload": payload}


@example("question and answer")
def _question_and_answer(given: Given) -> Outputs:
    grown = grow_given(given)
    request = decode_message(1, given.hex("request"))
    assert isinstance(request, Request)
    block = request.proof.block
    proof = make_proof(
        grown.head,
        grown.nodes.get,
        request.proof,
        value=grown.blocks[block.index] if block is not None else None,
        manifest=grown.authority.manifest,
    )
    empty = KnownLog(Head.empty(), Authority(grown.authority.key), lambda _: None)
    if request.proof.upgrade is not None:
        change = verify_proof(empty, request.proof, proof)
        assert change.head is not None
        assert change.head.length == grown.head.length
    return {"data": b"".join(Data(request.id, proof).encode_parts())}


@example("node counter")
def _node_counter(given: Given) -> Outputs:
    held = Bitfield()
    for index in given.words("held"):
        held.set(int(index))
    counters = [
        known_level(index, given.number("length"), held)[0] for index in range(given.number("length"))
    ]
    return {"counters": " ".join(map(str, counters))}


# ---- 06 drive


@example("bee")
def _bee(given: Given) -> Outputs:
    core = MemoryCore()

    async def write() -> None:
        bee = Bee(as_core(core))
        for word in given.words("operations"):
            key, equals, value = word.partition("=")
            if equals:
                await bee.put(key.encode(), value.encode())
            else:
                await bee.delete(key.removeprefix("-").encode())

    trio.run(write)
    return {f"block {number}": block for number, block in enumerate(core.blocks)}


@example("drive")
def _drive(given: Given) -> Outputs:
    manifest = Manifest.decode(Reader(given.hex("db manifest")))
    db = MemoryCore(key=core_key(manifest), manifest=manifest)
    blobs = MemoryCore()
    opened: list[CoreKey] = []

    async def open_core(key: CoreKey, _: Manifest | None) -> Core:
        opened.append(key)
        return as_core(blobs)

    async def write() -> None:
        drive = Drive(as_core(db), open_core)
        metadata = json.loads(given.text("metadata"))
        await drive.put(given.text("path"), given.text("content").encode(), metadata=metadata)

    trio.run(write)
    derived = content_manifest(manifest, db.key)
    assert opened == [core_key(derived)] == [content_core(Header(), db.key, manifest)[0]]
    return {
        "drive key": db.key,
        "blobs manifest": derived.encode(),
        "blobs key": opened[0],
        "db block 0": db.blocks[0],
        "db block 1": db.blocks[1],
        "blobs block 0": blobs.blocks[0],
    }


@example("block map")
def _block_map(given: Given) -> Outputs:
    pairs = decode_block_map(given.hex("block"))
    return {"pairs": " ".join(f"{index}:{size}" for index, size in pairs)}


@example("hint")
def _hint(given: Given) -> Outputs:
    return {"payload": encode_hint(Get(given.number("version"), given.text("key").encode()))}


# ---- 08 feeds


@example("item path")
def _item_path(given: Given) -> Outputs:
    seen_at = datetime.fromisoformat(given.text("date"))
    guid = given.text("guid")
    return {"id": model.item_id(guid), "path": model.item_path(guid, seen_at)}


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
        (state.value, step.value): after.value for (state, step), after in mux.TRANSITIONS.items()
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
        ("p2prss.json", model.FeedInfo),
        ("Capture policy", model.CapturePolicy),
        ("Item metadata", model.ItemRecord),
        ("Assets", model.Asset),
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
    answer = await FeedAnswers().answer(served, Window(), "http://127.0.0.1:7737", {})
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


@dataclass(frozen=True)
class Limit:
    """One number that bounds or sizes something."""

    module: str
    name: str
    value: float
    source: str  # how the code writes the value
    remark: str


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(p2prss.__path__, "p2prss."):
        if not found.ispkg and not found.name.endswith("__main__") and not found.name.startswith(UNFINISHED):
            yield found.name


def limits_of(module: str) -> Iterator[Limit]:
    """The public constants of a module that are numbers, and the fields of a class ``Limits``."""
    path = ROOT / (module.replace(".", "/") + ".py")
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    statements = ast.parse(text).body
    following_ones = [*statements[1:], None]
    assignments: list[tuple[str | None, ast.stmt, ast.stmt | None]] = [
        (None, *pair) for pair in zip(statements, following_ones, strict=True)
    ]
    for statement in statements:
        if isinstance(statement, ast.ClassDef) and statement.name == "Limits":
            assignments += [("Limits", one, None) for one in statement.body]
    loaded: Any = None
    for owner, statement, following in assignments:
        target: ast.expr
        if isinstance(statement, ast.AnnAssign):
            target, value = statement.target, statement.value
        elif isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
        else:
            continue
        if not isinstance(target, ast.Name) or value is None:
            continue
        if owner is None and not re.fullmatch("[A-Z][A-Z0-9_]*", target.id):
            continue
        loaded = loaded or importlib.import_module(module)
        found = getattr(getattr(loaded, owner)() if owner else loaded, target.id)
        if isinstance(found, bool) or not isinstance(found, int | float):
            continue
        remark = re.search(r"(?:^|\s)#\s*(.*)$", lines[(value.end_lineno or 1) - 1][value.end_col_offset :])
        note = remark[1] if remark else ""
        if not note and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            note = " ".join(str(following.value.value).split())
        yield Limit(module, f"{owner}.{target.id}" if owner else target.id, found, ast.unparse(value), note)


def limits_page() -> str:
    """What ``spec/09-limits.md`` has to be."""
    page = [
        "# 9. Limits and sizes",
        "",
        "Every named number of the code: limits on what peers, origins and feeds may cost, waiting times,",
        "and the sizes of the formats. This page is made from the modules by `python tests/test_spec.py`,",
        "and the test of that name fails when it is stale. The remark tells the unit.",
        "",
        "Limits of the protocols (what another implementation must accept or may rely on) stand in the",
        "chapters; most of what is here is our own choice, and other peers may choose differently.",
    ]
    package = ""
    for module in sorted(modules()):
        rows = list(limits_of(module))
        if not rows:
            continue
        if module.split(".")[1] != package:
            package = module.split(".")[1]
            page += ["", f"## {package}", ""]
            page += ["| Module | Name | Value | Written as | Remark |", "| --- | --- | ---: | --- | --- |"]
        for row in rows:
            number = f"{row.value:g}" if isinstance(row.value, float) else str(row.value)
            remark = row.remark.replace("|", "\\|")
            source = "" if row.source in (number, str(row.value)) else f"`{row.source}`"
            short = module.removeprefix("p2prss.")
            page.append(f"| {short} | `{row.name}` | {number} | {source} | {remark} |")
    return "\n".join(page) + "\n"


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
