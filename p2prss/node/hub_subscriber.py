"""A publisher's subscription to the hub of its source: the shell around ``feed.origin.websub``."""

import secrets
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import trio

from p2prss.errors import FetchError, UsageError
from p2prss.feed.origin.access import Access
from p2prss.feed.origin.fetch import Fetcher
from p2prss.feed.origin.url import redact, urlsplit_or_fail
from p2prss.feed.origin.websub import TOKEN_BYTES, Offer, Subscription

PATH: Final = "/websub/"


class HubSubscriber:
    """Subscribes to what ``use`` names, and tells ``on_news`` of each true notification.

    Args: base_url: where strangers reach this node's HTTP server. Raises: UsageError for one that is none.
    """

    def __init__(
        self,
        source: str,
        base_url: str,
        access: Access,
        *,
        on_news: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        check_callback(base_url)
        self.token: Final = secrets.token_urlsafe(TOKEN_BYTES)
        self._callback = base_url.rstrip("/") + PATH + self.token
        self._secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._source = source
        self._access = access
        self._on_news = on_news
        self._tell = tell
        self._changed = trio.Event()
        self.subscription: Subscription | None = None

    def use(self, offer: Offer | None) -> None:
        """Subscribe to this from now on."""
        if offer != (self.subscription.offer if self.subscription else None):
            self.subscription = Subscription(offer, self._callback, self._secret) if offer else None
            self._changed.set()

    async def run(self) -> None:
        """Ask the hub whenever it is time. One that fails is told, and asked again later."""
        while True:
            self._changed = trio.Event()
            one = self.subscription
            if one is not None and one.due_at <= trio.current_time():
                await self._ask(one)
            wait = max(one.due_at - trio.current_time(), 0.0) if one is not None else inf
            with trio.move_on_after(min(wait, 3600.0)):  # a hub's answer may have put it off
                await self._changed.wait()

    async def _ask(self, one: Subscription) -> None:
        hub = redact(one.offer.hub)
        try:
            async with Fetcher(self._source, self._access) as fetcher:
                status = await fetcher.post_form(one.offer.hub, one.request(trio.current_time()))
            problem = "" if 200 <= status < 300 else f"it answers {status}"
        except FetchError as error:
            problem = str(error)
        self._tell(f"the hub {hub} is not used: {problem}" if problem else f"asked the hub {hub} for news")

    def verify(self, query: str) -> str | None:
        """Answer to the hub, which asks whether we meant it."""
        return self.subscription.verify(query, trio.current_time()) if self.subscription else None

    def notify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Take a notification; a forged one is left out."""
        if self.subscription is not None and self.subscription.is_genuine(headers, body):
            self._on_news()


def check_callback(base_url: str) -> None:
    """Raises: UsageError for what is no address to be called at."""
    try:
        parts = urlsplit_or_fail(base_url)
    except FetchError as error:
        raise UsageError(f"--websub-callback: {error}") from None
    if parts.scheme == "file" or parts.query or parts.fragment or parts.username:
        raise UsageError("--websub-callback is the http or https address of this node, without ? and #")
