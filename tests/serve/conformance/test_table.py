"""The table of rules in the specification names every test here, and only tests that there are."""

import ast
import re
from pathlib import Path

from tests.spec.reading import table


def test_the_table_of_rules_is_complete() -> None:
    rows = table("10-http.md", "Rules and their tests")
    named = [name for _, _, tests in rows for name in re.split(r",\s*", tests)]
    there = [
        node.name
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(named) == sorted(there)
    assert all(rule and tests for rule, _, tests in rows)
