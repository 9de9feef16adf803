"""What a person sees on a terminal: progress that gives way to results, questions that wait for answers."""

import os
import pty
import re
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.e2e.program import PROGRAM, environment
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
