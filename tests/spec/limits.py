"""Chapter 9: every limit of the code, made from the modules."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import p2prss
from tests.spec.reading import ROOT


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
        if not found.ispkg and not found.name.endswith("__main__"):
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
