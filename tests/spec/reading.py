"""The specification as a test reads it: fenced examples, tables, headings."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from p2prss.crypto.keys import KeyPair

ROOT: Final = Path(__file__).parents[2]
SPEC: Final = ROOT / "spec"
FILES: Final = sorted(SPEC.glob("*.md"))


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
