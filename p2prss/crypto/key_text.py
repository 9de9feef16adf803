"""Core keys as text: 52 z-base-32 characters to show and share, 64 hex digits also understood."""

from typing import Final

from p2prss.codec import z32
from p2prss.crypto.keys import KEY_SIZE, CoreKey
from p2prss.errors import DecodeError, UsageError

Z32_LENGTH: Final = 52  # characters
HEX_LENGTH: Final = 2 * KEY_SIZE  # characters
SCHEMES: Final = ("p2prss", "hyper", "pear")
"""Links of these schemes name a core: ``<scheme>://<key>``, a path or query may follow."""


def format_key(key: CoreKey) -> str:
    """A key as 52 z-base-32 characters."""
    return z32.encode(key)


def parse_key(text: str) -> CoreKey:
    """Read a key, alone or as the host of a link; case does not matter.

    Raises: UsageError saying what is wrong with it.
    """
    given = text.strip()
    scheme, separator, rest = given.partition("://")
    if separator:
        if scheme.lower() not in SCHEMES:
            raise UsageError(f"{scheme}:// does not name a feed by its key")
        for end in "/?#":
            rest = rest.partition(end)[0]
        given = rest
    given = given.lower()
    try:
        if len(given) == Z32_LENGTH:
            return CoreKey(z32.decode(given))
        if len(given) == HEX_LENGTH and given.isascii() and given.isalnum():
            return CoreKey(bytes.fromhex(given))
    except (DecodeError, ValueError) as error:
        raise UsageError(f"not a key: {error}") from None
    raise UsageError(
        f"not a key: it has {len(given)} characters, not {Z32_LENGTH} (z-base-32) or {HEX_LENGTH} (hex)"
    )
