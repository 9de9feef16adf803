"""The import rules of the house, read from the source with ``ast``.

Imports inside functions and below ``TYPE_CHECKING`` count like any other: a layer that knows a name
of another one depends on it, whenever it looks.  The one exception is a standard module named only
in annotations, such as ``random.Random``: what a machine is handed, it may name.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[1]
_PACKAGE: Final = _ROOT / "p2prss"

# A row may import the rows above it and the layers named in its second column.
_ROWS: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "units": frozenset(),
    "codec": frozenset({"errors", "units"}),
    "crypto": frozenset({"errors", "units", "codec"}),
    "log": frozenset({"errors", "units", "codec", "crypto"}),
    "wire": frozenset({"errors", "units", "codec", "crypto", "log"}),
    "replication": frozenset({"errors", "units", "codec", "crypto", "log", "wire"}),
    "drive": frozenset({"errors", "units", "codec", "crypto", "log"}),
    "feed": frozenset({"errors", "units", "codec", "crypto", "log", "drive"}),
    "net": frozenset({"errors", "units", "codec", "crypto", "log", "wire", "replication"}),
    "serve": frozenset({"errors", "units", "codec", "crypto", "log", "drive", "feed"}),
    "node": frozenset(
        {"errors", "units", "codec", "crypto", "log", "wire", "replication", "drive", "feed", "net", "serve"}
    ),
    "cli": frozenset({"errors", "units", "node"}),
}

_FROM_OUTSIDE: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "units": frozenset(),
    "codec": frozenset(),
    "crypto": frozenset({"nacl"}),
    "log": frozenset(),
    "wire": frozenset({"nacl"}),  # the secret stream encrypts in place, below what crypto offers
    "replication": frozenset(),
    "drive": frozenset({"msgspec"}),
    "feed": frozenset({"httpx", "httpcore", "feedparser", "lxml", "feedgen", "msgspec", "trio", "mutagen"}),
    "net": frozenset({"trio", "nacl", "zeroconf", "ifaddr"}),
    "serve": frozenset(
        {"trio", "starlette", "hypercorn", "h11", "jinja2", "msgspec", "segno", "nh3", "brotli"}
    ),
    "node": frozenset({"trio", "starlette", "httpx", "msgspec", "platformdirs"}),
    "cli": frozenset({"typer", "click", "rich", "trio", "msgspec"}),
}

_DISTRIBUTIONS: Final = {"nacl": "pynacl"}  # import name to name on the shelf, where they differ

# Reaching for any of these is input, output, time or chance.
_FILES: Final = {"fcntl", "io", "mmap", "os", "pathlib", "shutil", "sqlite3", "tempfile"}
_SOCKETS: Final = {"asyncio", "select", "selectors", "socket", "ssl", "subprocess", "trio"}
_IMPURE: Final = _FILES | _SOCKETS | {"ctypes", "multiprocessing", "random", "secrets", "threading", "time"}

_PURE_LOG: Final = {"authority", "bitfield", "flat_tree", "manifest", "merkle", "proof", "proof_parts"}
_STORED_LOG: Final = {"log", "memory_storage", "sqlite_storage", "storage", "store"}
_NET_SHELLS: Final = {  # in packages of net; all else there is a machine
    "connect": {
        *("announcer", "blind_relay", "client", "network", "parts", "punch_sockets", "puncher"),
        *("search", "server", "visit"),
    },
    "dht": {"bootstrap", "client", "shell", "udp"},
    "lan": {"host_name", "interfaces", "lan", "mdns", "publication"},
    "swarm": {"swarm"},
    "udx": {"endpoint", "socket", "trio_stream"},
}
_TRIO_FEED: Final = {"archive.writer", "mirroring", "origin", "sources"}

# A package of feed may import itself, feed's own modules and the packages named in its row.
_FEED_ROWS: Final[dict[str, frozenset[str]]] = {
    "document": frozenset(),
    "linking": frozenset({"document"}),
    "archive": frozenset({"document"}),
    "origin": frozenset({"document"}),
    "mirroring": frozenset({"document", "archive", "origin"}),
    "sources": frozenset({"document", "archive", "origin", "mirroring"}),
}

# The middle of the program: it is made of these, and each is handed the whole node.
_NODE_PARTS: Final = "actions control duties keeping lan_http node publishing subscriptions"
_KNOW_THE_NODE: Final = {f"p2prss.node.{name}" for name in _NODE_PARTS.split()}

_MAX_LINES: Final = 500


@dataclass(frozen=True)
class Import:
    """One imported module; ``typing_only`` when it stands below ``if TYPE_CHECKING``."""

    module: str
    line: int
    typing_only: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    path: Path

    @property
    def parts(self) -> tuple[str, ...]:
        """Dotted name below ``p2prss`` as a tuple, packages without ``__init__``."""
        parts = self.path.relative_to(_PACKAGE).with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" else parts

    @property
    def layer(self) -> str:
        return self.parts[0] if self.parts else ""

    def __str__(self) -> str:
        return str(self.path.relative_to(_ROOT))


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for path in sorted(_PACKAGE.rglob("*.py")))


@cache
def tree(module: Module) -> ast.Module:
    return ast.parse(module.path.read_text("utf-8"), str(module))


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Every import of a file; ``from a import b`` counts as ``a.b`` where that is a module of ours."""
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                visit(statement, True)
            for statement in node.orelse:
                visit(statement, typing_only)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(module, node)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.append(Import(name if _is_ours(name) else base, node.lineno, typing_only))
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only)

    visit(tree(module), False)
    return tuple(found)


def _resolve(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = ["p2prss", *module.parts]
    if module.path.name != "__init__.py":
        package.pop()
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _is_ours(name: str) -> bool:
    path = _ROOT.joinpath(*name.split("."))
    return name.startswith("p2prss.") and (path.with_suffix(".py").is_file() or path.is_dir())


def _nobody(rule: str, breaks_it: Callable[[Module, Import], bool]) -> None:
    """Assert that no import of the package breaks a rule; name those that do."""
    found = [f"{m}:{i.line}: {i.module}" for m in modules() for i in imports(m) if breaks_it(m, i)]
    assert not found, "\n".join([rule, *found])


@cache
def circles() -> tuple[frozenset[str], ...]:
    """Modules that know each other, each by way of the others; what only annotations need counts."""
    names = {".".join(["p2prss", *module.parts]): module for module in modules()}
    knows = {name: {i.module for i in imports(m)} & names.keys() - {name} for name, m in names.items()}
    while ends := {name for name in knows if not knows[name]}:  # whoever knows nobody is in no circle
        knows = {name: known - ends for name, known in knows.items() if name not in ends}
    reached = {name: _reached(name, knows) for name in knows}
    return tuple(
        {frozenset(one for one in found if name in reached[one]) for name, found in reached.items()}
        - {frozenset()}
    )


def _reached(start: str, knows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        more = knows[todo.pop()] - found
        found |= more
        todo.extend(more)
    return found


@cache
def stored_log() -> frozenset[str]:
    """Names of the log modules that store: by name, by reaching for files, or by importing such a one."""
    log = {m.parts[1]: m for m in modules() if m.layer == "log" and len(m.parts) == 2}
    stored = {name for name in log if name in _STORED_LOG}
    stored |= {name for name, m in log.items() if any(i.top in _IMPURE for i in imports(m))}
    while True:
        more = {
            name
            for name, module in log.items()
            if name not in stored
            for i in imports(module)
            if i.module.startswith("p2prss.log.") and i.module.split(".")[2] in stored and not i.typing_only
        }
        if not more:
            return frozenset(stored)
        stored |= more


def is_pure(module: Module) -> bool:
    """Does the module promise no input, output, clock or chance of its own?"""
    if module.layer == "log":
        return module.parts[-1] in _PURE_LOG
    if module.layer == "net" and module.parts[1] in _NET_SHELLS and len(module.parts) > 2:
        return module.parts[-1] not in _NET_SHELLS[module.parts[1]]
    return module.layer in {"codec", "wire", "replication"} or module.parts == ("serve", "ranges")


def names_stored_log(wanted: Import) -> bool:
    """The package itself counts too: it may offer names of both halves."""
    first, second, third, *_ = [*wanted.module.split("."), "", ""]
    return (first, second) == ("p2prss", "log") and third in {*stored_log(), ""}


def test_every_layer_is_known() -> None:
    assert {module.layer for module in modules()} - {""} <= set(_ROWS)


def test_a_row_imports_only_rows_above_it() -> None:
    def breaks_it(module: Module, wanted: Import) -> bool:
        first, layer, *_ = [*wanted.module.split("."), ""]
        return first == "p2prss" and layer not in {"", module.layer, *_ROWS.get(module.layer, ())}

    _nobody("a layer may import only those above it", breaks_it)


def test_a_layer_uses_only_its_own_packages_from_outside() -> None:
    known = sys.stdlib_module_names | {"p2prss"}
    _nobody(
        "not one of the packages this layer may use",
        lambda module, wanted: wanted.top not in known | _FROM_OUTSIDE.get(module.layer, frozenset()),
    )


def test_trio_in_the_feed_layer_is_for_those_who_wait() -> None:
    _nobody(
        f"of feed, only {sorted(_TRIO_FEED)} may import trio",
        lambda module, wanted: (
            module.layer == "feed"
            and wanted.top == "trio"
            and _TRIO_FEED.isdisjoint({module.parts[1], ".".join(module.parts[1:3])})
        ),
    )


def test_the_packages_of_feed_are_known_and_import_one_way() -> None:
    def breaks_it(module: Module, wanted: Import) -> bool:
        if module.layer != "feed" or not wanted.module.startswith("p2prss.feed."):
            return False
        package = module.parts[1] if len(module.parts) > 1 else ""
        return _feed_package(wanted.module) not in {"", package, *_FEED_ROWS.get(package, ())}

    assert {path.parent.name for path in (_PACKAGE / "feed").glob("*/__init__.py")} == set(_FEED_ROWS)
    _nobody("a package of feed may import only those its row names", breaks_it)


def _feed_package(name: str) -> str:
    """The package of feed that a module stands in; empty for one of feed's own."""
    package = name.split(".")[2]
    return package if (_PACKAGE / "feed" / package).is_dir() else ""


def test_modules_know_each_other_one_way() -> None:
    outside = [sorted(circle) for circle in circles() if not circle <= _KNOW_THE_NODE]
    assert not outside, "a circle of imports, for annotations or not: let one of them ask for a Protocol"


def test_machines_reach_for_no_world() -> None:
    _nobody(
        "a sans-IO module is handed its bytes, its time and its chance",
        lambda module, wanted: is_pure(module) and wanted.top in _IMPURE and not wanted.typing_only,
    )


def test_the_lowest_layers_and_the_drive_touch_no_files_and_no_sockets() -> None:
    def breaks_it(module: Module, wanted: Import) -> bool:
        if module.layer not in {"errors", "units", "codec", "crypto", "drive"} or wanted.typing_only:
            return False
        return wanted.top in (_FILES - {"os"}) | _SOCKETS or (wanted.top == "os" and module.layer != "crypto")

    _nobody("these layers only compute; crypto may ask the system for chance", breaks_it)


def test_pure_modules_know_only_the_pure_half_of_the_log() -> None:
    _nobody(
        "the machines and the pure log modules may use only the pure half of log",
        lambda module, wanted: is_pure(module) and names_stored_log(wanted),
    )


def test_the_halves_of_the_log_are_told_apart() -> None:
    assert stored_log() >= {"sqlite_storage", "storage"}
    assert not stored_log() & _PURE_LOG


def test_packages_from_outside_are_declared() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in project["dependencies"]}
    used = {i.top for m in modules() for i in imports(m)} - sys.stdlib_module_names - {"p2prss"}
    missing = {_DISTRIBUTIONS.get(name, name) for name in used} - declared
    assert not missing, f"imported, but not in pyproject.toml: {sorted(missing)}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_fits_in_a_head_and_says_what_it_is(module: Module) -> None:
    lines = module.path.read_text("utf-8").count("\n")
    assert lines <= _MAX_LINES, f"{lines} lines: look for the seam"
    assert ast.get_docstring(tree(module)), "no docstring"
    assert not re.fullmatch(r"utils?|helpers?|misc|common", module.path.stem), "what has no home has no name"


# ------------------------------------------------------------------------------- all tracked files

# Written in pieces, so that this file does not name what it looks for.
_MACHINE_PATHS: Final = re.compile(r"(?<![\w.~-])/(?:root|home|Users|work|opt/pypi[\w-]*)/[\w.-]+")
_REGISTRIES: Final = re.compile(
    "|".join(["npmjs" + r"\.(?:org|com)", "pypi" + r"\.org", "python" + "hosted"])
)
_FOREIGN_TEXT: Final = ("tests/feeds/", "tests/vectors/")  # other people's words, or bytes


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, check=True, text=True
    ).stdout
    paths = (_ROOT / name for name in listed.split("\0") if name and not name.startswith(_FOREIGN_TEXT))
    return tuple(path for path in paths if path.is_file())


@pytest.mark.parametrize("pattern", [_MACHINE_PATHS, _REGISTRIES], ids=["machine-paths", "registries"])
def test_no_tracked_file_names_a_machine_or_a_registry(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(_ROOT)}: {match[0]}"
        for path in tracked()
        for match in pattern.finditer(path.read_text("utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)
