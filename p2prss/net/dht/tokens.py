"""Tokens: whoever wants to write here first shows that it receives what is sent to its address.

Source: dht-rpc 6.27.0 lib/io.js ``token``; spec/07-net.
"""

import hmac
from typing import Final

from p2prss.crypto.hashes import blake2b

ROTATION_SECONDS: Final = 7.5  # a token is good for one to two rotations


class TokenSource:
    """Makes and checks tokens. They hold for a host, not a port, and nothing is stored per asker."""

    def __init__(self, secret: bytes, now: float) -> None:
        self._current = secret  # 32 random bytes
        self._previous = blake2b(secret)
        self._next_rotation_at = now + ROTATION_SECONDS

    def issue(self, host: str, now: float) -> bytes:
        """The token for a host: 32 bytes."""
        self._rotate(now)
        return blake2b(host.encode("ascii"), key=self._current)

    def is_valid(self, token: bytes, host: str, now: float) -> bool:
        """Whether a token was issued to this host in the last two rotations."""
        self._rotate(now)
        name = host.encode("ascii")
        return any(
            hmac.compare_digest(token, blake2b(name, key=secret))
            for secret in (self._current, self._previous)
        )

    def rotate(self) -> None:
        """Forget the older secret, make a new one."""
        self._previous, self._current = self._current, blake2b(self._previous)

    def _rotate(self, now: float) -> None:
        late = now - self._next_rotation_at
        if late < 0:
            return
        self.rotate()
        if late >= ROTATION_SECONDS:  # nobody asked for a while: both secrets are too old
            self.rotate()
        self._next_rotation_at = now + ROTATION_SECONDS - late % ROTATION_SECONDS
