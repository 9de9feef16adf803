"""Addresses as people type them: ``host:port``, ``[ipv6]:port`` and ``:port``."""

from dataclasses import dataclass
from typing import Final, Self

from p2prss.errors import UsageError

MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or IP address, and a TCP port; port 0 asks the system for a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, default_host: str = "127.0.0.1") -> Self:
        """Read ``host:port``, ``[ipv6]:port`` or ``:port``.

        Raises: UsageError that says what is wrong with the text.
        """
        host, colon, port_text = text.strip().rpartition(":")
        if not colon:
            raise UsageError(f"{text!r} has no port; write HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise UsageError(f"{text!r} looks like IPv6; write [ADDRESS]:PORT")
        if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= MAX_PORT):
            raise UsageError(f"{port_text!r} in {text!r} is no port number")
        return cls(host or default_host, int(port_text))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
