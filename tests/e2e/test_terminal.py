"""What a person sees on a terminal: progress that gives way to results, questions that wait for answers."""

import os
import pty
import re
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.e2e.program import PROGRAM, environment, run
from tests.e2e.show import LOCAL, Show

SECONDS: Final = 60.0
CONTROLS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


async def on_terminal(home: Path, *arguments: str | Path, answer: str = "") -> tuple[int, list[str]]:
    """Run a command on a terminal of its own. Returns: its exit code, and the lines that stay to be read."""
    controller, terminal = pty.openpty()
    command = [str(PROGRAM), "--home", str(home), *map(str, arguments)]
    said = b""
    with trio.fail_after(SECONDS):
        process = await trio.lowlevel.open_process(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment({"TERM": "xterm-256color"}),
        )
        os.close(terminal)
        async with trio.lowlevel.FdStream(controller) as stream:
            try:
                async for data in stream:
                    said += data
                    if answer and said.rstrip().endswith(b"[y/N]:"):
                        await stream.send_all(answer.encode() + b"\n")
                        answer = ""
            except trio.BrokenResourceError:
                pass  # the program has ended, and closed its side
        code = await process.wait()
    lines = [line.rpartition("\x1b[2K")[2] for line in said.decode().replace("\r\n", "\n").split("\n")]
    return code, [text for line in lines if (text := CONTROLS.sub("", line).strip())]


async def test_the_commands_of_a_publisher(local_show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, lines = await on_terminal(home, "publish", "--no-lan", "--no-dht", local_show.feed, "--once")
    assert code == 0
    assert lines[0].startswith("p2prss://")
    assert lines[-1].startswith("published: 4 episodes, 17 files, ")
    code, lines = await on_terminal(home, "list")
    assert (code, lines[0].split()) == (0, ["NAME", "ROLE", "TITLE", "KEY"])
    assert lines[1].startswith("the-copper-compass  publish  The Copper Compass  ")
    code, lines = await on_terminal(home, "verify")
    assert (code, lines[-2].split()) == (0, ["NAME", "BLOCKS", "SIZE", "RESULT"])
    assert lines[-1].endswith("ok")
    code, lines = await on_terminal(home, "export", "the-copper-compass", tmp_path / "plain")
    assert (code, lines[-1].split(",")[0]) == (0, "17 files")
    code, lines = await on_terminal(home, "show", "nothing")
    assert (code, len(lines)) == (2, 1)


@pytest.mark.parametrize(("answer", "left"), [("n", 1), ("y", 0)])
async def test_removing_asks_first(answer: str, left: int, local_show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    await on_terminal(home, "publish", "--no-lan", "--no-dht", local_show.feed, "--no-media", "--once")
    code, lines = await on_terminal(home, "remove", "the-copper-compass", answer=answer)
    assert code == left
    assert f"Delete {LOCAL.title}" in lines[0]
    code, lines = await on_terminal(home, "list")
    assert any(LOCAL.title in line for line in lines) == bool(left)


ASCII_ONLY: Final = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}


async def test_a_terminal_without_umlauts(tmp_path: Path) -> None:
    """What it cannot show is escaped; JSON is the same everywhere."""
    home, source = tmp_path / "home", tmp_path / "feed.xml"
    source.write_text(
        "<rss version='2.0'><channel><title>Größe → Raum</title><item><guid>1</guid></item></channel></rss>"
    )
    there = {"home": home, "environ": ASCII_ONLY}
    done = await run("publish", source, "--once", "--no-http", as_json=False, **there)
    assert r"Gr\xf6\xdfe" in done.stderr
    assert r"Gr\xf6\xdfe \u2192 Raum" in (await run("list", as_json=False, **there)).stdout
    (listed,) = (await run("list", **there)).lines
    assert listed["title"] == "Größe → Raum"
    no_text = ("publish", source, "--once", "--no-http", "--name", "ä")
    assert "LC_ALL" in (await run(*no_text, code=2, **there)).error


async def test_help_is_found_as_a_word_too() -> None:
    for words in ([], ["publish"]):
        asked = await run("help", *words, as_json=False)
        assert asked.stdout == (await run(*words, "--help", as_json=False)).stdout
