"""What all requests of one update share: an HTTP client, its manners, and the source's credentials."""

from base64 import b64encode
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx
import trio

from p2prss.feed.origin.access import Access
from p2prss.feed.origin.network import VettingBackend
from p2prss.feed.origin.transport import Transport
from p2prss.feed.origin.url import origin_of

CONNECTIONS_PER_HOST: Final = 2
CONNECT_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 60.0  # without a byte, in the middle of a body as well

MAX_LIMITERS: Final = 1000  # of hosts that are remembered, though nothing is asked of them now

_HOSTS: Final = trio.lowlevel.RunVar[dict[str, trio.CapacityLimiter]]("p2prss requests by host")


class Session:
    """Requests on behalf of one source.

    Args: source_url: its host and port may be private, and its origin gets the credentials; a ``file:``
    URL has neither. source_was_public: as of ``VettingBackend``.
    """

    def __init__(
        self, source_url: str, access: Access | None = None, *, source_was_public: bool = False
    ) -> None:
        self._access = access or Access()
        self._origin: tuple[str, str, int] | None = None
        self._credentials: dict[str, str] = {}
        parts = urlsplit(source_url)
        if parts.scheme != "file":
            self._origin = origin_of(source_url)
            if parts.username or parts.password:
                pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
                self._credentials["authorization"] = "Basic " + b64encode(pair.encode()).decode()
            self._credentials |= dict(self._access.credentials)
        self._backend = VettingBackend(
            self._origin[1:] if self._origin and self._access.source_may_be_private else None,
            self._access.private_hosts,
            source_was_public=source_was_public,
        )
        self._client: httpx.AsyncClient | None = None

    @property
    def source_was_public(self) -> bool:
        """Whether the source's host has ever had a public address."""
        return self._backend.source_was_public

    async def aclose(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def credentials_for(self, url: str) -> dict[str, str]:
        """The credentials of the source as headers, for its own scheme, host and port only."""
        return self._credentials if self._credentials and origin_of(url) == self._origin else {}

    def limiter(self, url: str) -> trio.CapacityLimiter:
        """What keeps all sessions of this program together at ``CONNECTIONS_PER_HOST``."""
        try:
            hosts = _HOSTS.get()
        except LookupError:
            _HOSTS.set(hosts := {})
        if len(hosts) >= MAX_LIMITERS:
            for host in [host for host, one in hosts.items() if not one.borrowed_tokens]:
                del hosts[host]
        return hosts.setdefault(origin_of(url)[1], trio.CapacityLimiter(CONNECTIONS_PER_HOST))

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client, made when it is first needed."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=Transport(self._backend),
                headers={"user-agent": self._access.user_agent, "accept": "*/*"},
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client
