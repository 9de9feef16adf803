"""What a user allows and gives for getting at a source, from options, the environment and a file."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from p2prss.errors import UsageError
from p2prss.feed.origin.access import MAX_CREDENTIAL_BYTES, Access
from p2prss.feed.origin.url import secrets_of

ALLOW_PRIVATE_NAME: Final = "P2PRSS_FETCH_ALLOW_PRIVATE"


def source_access(
    *,
    user_agent: str | None = None,
    private_hosts: Iterable[str] = (),
    credentials: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """Checked. Hosts of the environment's ``P2PRSS_FETCH_ALLOW_PRIVATE``, comma separated, are allowed too.

    Raises: UsageError, without a word of what is in the file.
    """
    hosts = [*private_hosts, *filter(str.strip, environ.get(ALLOW_PRIVATE_NAME, "").split(","))]
    text = _read(credentials) if credentials is not None else ""
    access = Access.of(user_agent=user_agent, private_hosts=hosts, credentials=text)
    if credentials is not None and not access.credentials:
        raise UsageError(f"{credentials} holds no credentials: write 'Authorization: …' or 'Cookie: …'")
    return access


def secret_in(source: str) -> str:
    """What in a source's address only some may know, in words and without its value; empty for nothing."""
    return next((what for what, _ in secrets_of(source)), "")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CREDENTIAL_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or 'error').lower()}") from None
    if mode & 0o007:
        raise UsageError(f"everybody on this machine may read or change {path}; try: chmod 600 {path}")
    if len(data) > MAX_CREDENTIAL_BYTES:
        raise UsageError(f"{path} is too long for credentials")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text") from None
