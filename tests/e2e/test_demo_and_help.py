"""What somebody sees who has just arrived: the demo, and the help."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import trio
from typer.main import get_command

from p2prss.cli.app import app
from tests.e2e.program import PROGRAM, environment, run, running
from tests.e2e.show import download, served

ROOT: Final = Path(__file__).parents[2]
COMMANDS: Final = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # of a group


async def test_the_demo_of_a_checkout_works() -> None:
    done = await trio.run_process(
        [ROOT / "scripts/p2prss", "demo"],
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(),
    )
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert "byte for byte the same" in text
    assert re.search(r"^http://127\.0\.0\.1:\d+/feeds/\w+/feed\.xml$", text, re.MULTILINE)


async def test_the_demo_for_programs(tmp_path: Path) -> None:
    (result,) = (await run("demo", "--once")).lines
    assert result.keys() >= {"key", "link", "feed_url", "episodes", "bytes"}
    assert result["episodes"] == 3


async def test_the_demo_can_be_played_until_it_is_stopped(tmp_path: Path) -> None:
    async with running("demo", "--keep", home=tmp_path / "unused") as program:
        feed_url = (await program.line())["feed_url"]
        episodes = await served(feed_url)
        assert len([await download(episode) for episode in episodes]) == 3
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", int(feed_url.split(":")[2].split("/")[0]))
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """Read as a user reads it, from the program itself."""
    said = subprocess.run(
        [PROGRAM, command, "--help"], capture_output=True, text=True, check=True, env=environment()
    )
    assert f"Example: p2prss {command}" in said.stdout
    assert said.stderr == ""


def test_the_help_names_every_command() -> None:
    said = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True, env=environment())
    for command in COMMANDS:
        assert re.search(rf"^\W*{command} +\S", said.stdout, re.MULTILINE), command
