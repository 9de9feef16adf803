"""The scripts of the checkout: what they do before and besides starting the program."""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts import make_environment
from scripts.make_environment import Checkout

_ROOT: Final = Path(__file__).parents[1]
_EXECUTABLE: Final = ("scripts/p2prss", "scripts/test", "scripts/check", "scripts/bench", ".ci/run")


def _write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is made, with a program that only tells its arguments."""
    root = tmp_path / "a checkout"
    shutil.copytree(_ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", root)
    _write_program(root / ".venv/bin/p2prss", '#!/bin/sh\npwd\nfor each; do echo "[$each]"; done\n')
    made = Checkout(root, "run")
    made.stamp("run").write_text(made.wanted_stamp() + "\n", "utf-8")
    return root


def _run(
    program: Path, *arguments: str, cwd: Path, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_a_made_environment_is_used_silently_from_anywhere(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to(checkout / "scripts/p2prss")
    (elsewhere / "second").symlink_to("first")
    for program in (checkout / "scripts/p2prss", elsewhere / "second"):
        result = _run(program, "list", "two words", "", cwd=elsewhere)
        assert result.stdout.splitlines() == [str(elsewhere), "[list]", "[two words]", "[]"]
        assert result.stderr == ""


@pytest.mark.parametrize("changed", ["pyproject.toml", "scripts/constraints.txt"])
def test_an_environment_is_renewed_when_what_it_is_made_of_changes(checkout: Path, changed: str) -> None:
    path = checkout / changed
    path.write_text(path.read_text("utf-8") + "\n# changed\n", "utf-8")
    _write_program(checkout / "bin/python3", "#!/bin/sh\necho renewed >&2\n")
    path_with_fake = f"{checkout}/bin:{os.environ['PATH']}"
    assert "renewed" in _run(checkout / "scripts/p2prss", cwd=checkout, path=path_with_fake).stderr


def test_a_python_that_is_too_old_is_one_line_with_the_next_step(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    only = checkout / "bin"
    for name in ("bash", "env", "readlink"):
        found = shutil.which(name)
        assert found
        only.mkdir(exist_ok=True)
        (only / name).symlink_to(found)
    _write_program(only / "python3", '#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\nexit 1\n')
    result = _run(checkout / "scripts/p2prss", cwd=checkout, path=str(only))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "p2prss: Python 3.11 or newer is needed (Python 3.9.2): install python3, then run this again"
    ]


def test_a_checkout_that_can_only_be_read_is_told_with_the_next_step(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(checkout / ".venv")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(sys, "argv", ["make_environment.py", str(checkout), "run"])
    with pytest.raises(SystemExit):
        make_environment.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"p2prss: {checkout} is not ours to write to (Read-only file system)")
    assert f"pipx install '{checkout}'" in line


def test_scripts_can_be_run() -> None:
    for name in _EXECUTABLE:
        assert (_ROOT / name).stat().st_mode & stat.S_IXUSR, name


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (_ROOT / "scripts/constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line) for line in pins)
