"""What we ship, without the checkout: a built wheel in an empty environment, and its dependencies.

It catches a missing dependency, a forgotten data file and an import that only works in the checkout.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

_ROOT: Final = Path(__file__).parents[1]
_SOURCES: Final = ("pyproject.toml", "LICENSE", "README.md")
_STEP_SECONDS: Final = 300  # a cold cache on a slow line


def _run(*command: str | Path, cwd: Path) -> str:
    """Run a program that must succeed, without this environment's Python settings; returns stdout."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=_STEP_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of a new environment that holds our wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files behind
    shutil.copytree(_ROOT / "p2prss", source / "p2prss", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _SOURCES:
        shutil.copy(_ROOT / name, source)
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")

    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    constraints = _ROOT / "scripts" / "constraints.txt"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--use-pep517")
    _run(python, *install, "--constraint", constraints, wheel, cwd=folder)
    return environment / "bin"


def test_the_program_starts_and_knows_its_version(installed: Path, tmp_path: Path) -> None:
    assert version("p2prss") in _run(installed / "p2prss", "--version", cwd=tmp_path)


def test_help_names_the_commands(installed: Path, tmp_path: Path) -> None:
    text = _run(installed / "p2prss", "--help", cwd=tmp_path)
    for command in ("publish", "follow", "seed"):
        assert command in text


def test_every_module_is_there_and_imports(installed: Path, tmp_path: Path) -> None:
    modules = sorted(
        ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (_ROOT / "p2prss").rglob("*.py")
        if path.name != "__main__.py"
    )
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    _run(installed / "python", "-c", program, *modules, cwd=tmp_path)


def test_data_files_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    wanted = {
        str(path.relative_to(_ROOT))
        for path in (_ROOT / "p2prss").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    program = "from importlib.metadata import files; print(*files('p2prss'), sep='\\n')"
    shipped = set(_run(installed / "python", "-c", program, cwd=tmp_path).splitlines())
    assert wanted <= shipped
