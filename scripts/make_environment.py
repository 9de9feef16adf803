"""Make or renew a checkout's ``.venv``: ``python3 make_environment.py ROOT run|dev``.

Run by scripts/environment.sh with nothing but a Python.  One process works at a time, the others
wait for it.  What it was made from is stamped last, so an interrupted run is simply repeated.  It is
silent unless it takes more than a moment; the full story is in ``.venv/setup.log``.
"""

import errno
import fcntl
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, NoReturn, TextIO

_SILENT_SECONDS: Final = 1.0
_KINDS: Final = {"run": ("run",), "dev": ("run", "dev")}  # what was asked for: the stamps it earns
_FOREIGN: Final = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


class SetupError(Exception):
    """The environment cannot be made; the text is one line that says what to do."""


class Checkout:
    """The files of one checkout that an environment is made from, and the environment."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.kind = kind
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.constraints = root / "scripts" / "constraints.txt"
        self.log = self.venv / "setup.log"

    def wanted_stamp(self) -> str:
        """What environment.sh compares: the place, since environments cannot move, and two files."""
        texts = [path.read_text("utf-8") for path in (self.root / "pyproject.toml", self.constraints)]
        return "\n".join([str(self.root), *(text.rstrip("\n") for text in texts)])

    def stamp(self, kind: str) -> Path:
        return self.venv / f".made-for-{kind}"

    def is_made(self) -> bool:
        stamp = self.stamp(self.kind)
        return stamp.exists() and stamp.read_text("utf-8").rstrip("\n") == self.wanted_stamp()

    def works(self) -> bool:
        """Is there a usable environment?  It is not when half made, moved, or its Python has gone."""
        check = "import sys, pip; sys.exit(sys.version_info < (3, 11) or sys.prefix != sys.argv[1])"
        try:
            result = subprocess.run([self.python, "-c", check, self.venv], capture_output=True, check=False)
        except OSError:
            return False
        return result.returncode == 0

    def make(self) -> None:
        """Make what is missing, then stamp it.

        Raises: SetupError when venv or pip fail.
        """
        wanted = self.wanted_stamp()
        if not self.works():
            if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
                version = "{}.{}".format(*sys.version_info)
                raise SetupError(
                    f"this Python cannot make environments: install python{version}-venv, then run this again"
                )
            shutil.rmtree(self.venv, ignore_errors=True)
            self.venv.mkdir()
        for kind in _KINDS["dev"]:
            self.stamp(kind).unlink(missing_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            if not self.python.exists():
                self._run([sys.executable, "-m", "venv", self.venv], log, "the environment cannot be made")
            extras = "[dev]" if self.kind == "dev" else ""
            install: list[str | Path] = [
                self.python,
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ]
            # feedgen comes as source only; PEP 517 builds it alike with every pip
            install += [
                "--use-pep517",
                "--constraint",
                self.constraints,
                "--editable",
                f"{self.root}{extras}",
            ]
            self._run(install, log, "what p2prss needs cannot be installed; check the network and try again")
        for kind in _KINDS[self.kind]:
            temporary = self.stamp(kind).with_suffix(".new")
            temporary.write_text(wanted + "\n", "utf-8")
            temporary.replace(self.stamp(kind))

    def _run(self, command: list[str | Path], log: TextIO, complaint: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        finished = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
        if finished.returncode == 0:
            return
        errors = [line for line in self.log.read_text("utf-8", "replace").splitlines() if "ERROR" in line]
        reason = f" ({errors[-1].removeprefix('ERROR: ')[:160]})" if errors else ""
        raise SetupError(f"{complaint}{reason}; see {self.log}")


def say(text: str) -> None:
    sys.stderr.write(f"p2prss: {text}\n")
    sys.stderr.flush()


def main() -> None:
    checkout = Checkout(Path(sys.argv[1]), sys.argv[2])
    notice = threading.Timer(_SILENT_SECONDS, say, ["setting up .venv, which takes about a minute, once"])
    notice.daemon = True
    notice.start()
    lock = os.open(checkout.root, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not checkout.is_made():  # else whoever we waited for has made it
            checkout.make()
    except SetupError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; run this again to go on")
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            fail(
                f"{checkout.root} is not ours to write to ({error.strerror}): copy it to a folder that is, or"
                f" install it with: pipx install {shlex.quote(str(checkout.root))}"
            )
        fail(f"the environment cannot be made: {error}")
    finally:
        notice.cancel()
        os.close(lock)


def fail(text: str) -> NoReturn:
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    main()
