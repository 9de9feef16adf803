"""How origins are approached: what a user allows and gives besides the source itself."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from p2prss import __version__
from p2prss.errors import UsageError
from p2prss.units import KIB

USER_AGENT: Final = f"p2prss/{__version__} (peer-to-peer podcast mirror)"

MAX_CREDENTIAL_BYTES: Final = 16 * KIB  # of a file with credentials
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "cookie"})
_AGENT: Final = re.compile(r"[\x20-\x7e]{1,200}")
_HOST_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]@]{1,253}))(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class PrivateHost:
    """A host that may be on the local network; without a port: at any."""

    host: str  # in lower case, an address in its usual form
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "PrivateHost":
        """Read ``HOST``, ``HOST:PORT``, ``[ADDRESS]:PORT`` or an IPv6 address. Raises: UsageError."""
        text = text.strip()
        try:
            return cls(str(ip_address(text)))
        except ValueError:
            pass
        found = _HOST_PORT.fullmatch(text)
        port = int(found[3]) if found and found[3] else None
        if found is None or (port is not None and not 0 < port < 65536):
            raise UsageError(f"{text[:80]!r} is no host: write HOST or HOST:PORT, such as nas.local:8080")
        return cls(_usual(found[1] or found[2]), port)

    def covers(self, host: str, port: int) -> bool:
        """Whether this is about a host of a URL and its port."""
        return self.host == _usual(host) and self.port in (None, port)


def _usual(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return host.lower().encode("idna").decode() if not host.isascii() else host.lower()
    except UnicodeError:
        return host.lower()


@dataclass(frozen=True, slots=True)
class Access:
    """Args: credentials: headers for the source's own origin, ``Authorization`` and ``Cookie``;
    source_may_be_private: the user typed its address, which no list or feed has named.
    """

    user_agent: str = USER_AGENT
    private_hosts: tuple[PrivateHost, ...] = ()
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    source_may_be_private: bool = True

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the credentials must not be told: tokens and the values of cookies."""
        found: list[str] = []
        for name, value in self.credentials:
            parts = value.split(";") if name == "cookie" else [value]
            found += [part.partition("=" if name == "cookie" else " ")[2].strip() for part in parts]
        return tuple(filter(None, found))

    @classmethod
    def of(
        cls, *, user_agent: str | None = None, private_hosts: Iterable[str] = (), credentials: str = ""
    ) -> "Access":
        """Access from texts; ``credentials`` is the text of a file. Raises: UsageError."""
        if user_agent is not None and not _AGENT.fullmatch(user_agent.strip()):
            raise UsageError("a user agent is 1 to 200 printable ASCII characters")
        return cls(
            user_agent=user_agent.strip() if user_agent else USER_AGENT,
            private_hosts=tuple(PrivateHost.parse(text) for text in private_hosts if text.strip()),
            credentials=parse_credentials(credentials),
        )


def parse_credentials(text: str) -> tuple[tuple[str, str], ...]:
    """Header lines ``Authorization: Bearer …`` and ``Cookie: …``; blank lines and ``#`` lines are left out.

    Raises: UsageError with the number of a line that is something else, and never with its text.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or name not in _CREDENTIAL_HEADERS or not value or not _is_header_value(value):
            raise UsageError(
                f"line {number} of the credentials is neither 'Authorization: …' nor 'Cookie: …'"
            )
        if name in found:
            raise UsageError(f"line {number} of the credentials gives {name.title()} a second time")
        found[name] = value
    return tuple(found.items())


def _is_header_value(value: str) -> bool:
    return value.isascii() and value.isprintable()
