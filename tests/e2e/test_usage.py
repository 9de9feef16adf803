"""Command lines that make no sense: one line names what is wrong, exit code 2, and no home is touched."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from p2prss.cli.app import run

KEY: Final = "yuhj5d6dzxbqyiibpe1rcpc7iixgysinwk5kni1situchzhtyr4y"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["follow", "nonsense"], "has 8 characters, not 52"),
        (["follow", KEY[:-1] + "l"], "'l' is not a z-base-32 character"),
        (["follow", "ftp://example.org/feed.xml"], "a ftp:// address is no key"),
        (["seed", "https://example.org/feed.xml"], "a https:// address is no key"),
        (["seed", KEY, "p2prss://abc"], "has 3 characters"),
        (["seed"], "nothing to seed"),
        (["show", KEY], "nothing at"),
        (["remove", KEY], "nothing at"),
        (["follow", KEY, "--listen", "127.0.0.1:abc"], "'abc' in '127.0.0.1:abc' is no port number"),
        (["follow", KEY, "--peer", "example.org"], "'example.org' has no port"),
        (["follow", KEY, "--http", "127.0.0.1:70000"], "'70000' in '127.0.0.1:70000' is no port number"),
        (["follow", f"p2prss://{KEY}?peer=host"], "'host' has no port"),
        (["follow", KEY, "--latest", "many"], "--latest"),
        (["follow", KEY, "--all", "--on-demand"], "only one of the options"),
        (["follow", KEY, "--timeout", "5"], "--timeout is for --once"),
        (["publish", "feed.xml", "--interval", "1s"], "--interval '1s'"),
        (["publish", "feed.xml", "--since", "yesterday"], "--since"),
        (["publish", "ftp://example.org/feed.xml"], "not ftp"),
        (["publish", "http://"], "names no host"),
        (["publish", "http://me:secret@["], "unreadable"),
        (["publish"], "SOURCE"),
        (["frobnicate"], "frobnicate"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_a_usage_error(
    arguments: list[str], cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--home", str(tmp_path / "home"), "--json", *arguments]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("p2prss: ")
    assert cause in line
    assert "secret" not in said.out + said.err
    error = msgspec.json.decode(said.out)
    assert (error["event"], error["code"]) == ("error", 2)
    assert line == f"p2prss: {error['message']}"
    assert not (tmp_path / "home").exists()
