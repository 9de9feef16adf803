"""What all requests of one update share: an HTTP client, its manners, and the source's credentials."""

from base64 import b64encode
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx
import trio

from p2prss import __version__
from p2prss.feed.origin.network import VettingBackend
from p2prss.feed.origin.transport import Transport
from p2prss.feed.origin.url import origin_of

CONNECTIONS_PER_HOST: Final = 2
CONNECT_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 60.0  # without a byte, in the middle of a body as well

USER_AGENT: Final = f"p2prss/{__version__} (+peer-to-peer podcast mirror)"


class Session:
    """Requests on behalf of one source.

    Args: source_url: its host and port may be private and get its credentials; a ``file:`` URL has neither.
    """

    def __init__(self, source_url: str, *, user_agent: str = USER_AGENT) -> None:
        self._origin: tuple[str, str, int] | None = None
        self._authorization = ""
        parts = urlsplit(source_url)
        if parts.scheme != "file":
            self._origin = origin_of(source_url)
            if parts.username or parts.password:
                pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
                self._authorization = "Basic " + b64encode(pair.encode()).decode()
        self._user_agent = user_agent
        self._hosts: dict[str, trio.CapacityLimiter] = {}
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def authorization_for(self, url: str) -> str:
        """The credentials of the source, for its own origin only."""
        return self._authorization if self._authorization and origin_of(url) == self._origin else ""

    def limiter(self, url: str) -> trio.CapacityLimiter:
        """What keeps us at ``CONNECTIONS_PER_HOST``."""
        return self._hosts.setdefault(
            (urlsplit(url).hostname or "").lower(), trio.CapacityLimiter(CONNECTIONS_PER_HOST)
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client, made when it is first needed."""
        if self._client is None:
            trusted = [self._origin[1:]] if self._origin else []
            self._client = httpx.AsyncClient(
                transport=Transport(VettingBackend(trusted)),
                headers={"user-agent": self._user_agent, "accept": "*/*"},
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client
