"""The home's token: who can read this file may change things over HTTP, as may whoever was given it."""

import os
import re
import secrets
import time
from pathlib import Path
from typing import Final

from p2prss.errors import StorageError
from p2prss.serve.token import Gate

TOKEN_BYTES: Final = 32

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def read_token(path: Path) -> str:
    """The secret in a file, made if there is none yet; 43 characters that fit into URLs.

    A file that holds something else, or that others may read, is replaced: then it is no secret.
    Raises: StorageError.
    """
    try:
        if path.exists():
            text = path.read_text("ascii", errors="replace").strip()
            if _TOKEN.fullmatch(text) and not path.stat().st_mode & 0o077:
                return text
        text = secrets.token_urlsafe(TOKEN_BYTES)
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{text}\n")
        new.replace(path)
    except OSError as error:
        raise StorageError(f"a secret cannot be kept in {path}: {error.strerror or error}") from error
    return text


def make_code(token: str) -> str:
    """What lets a browser in once, for a minute: for places that others can see."""
    return Gate(token).code(time.time(), secrets.token_hex(8))
