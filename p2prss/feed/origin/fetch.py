"""The one way p2prss gets anything from an origin: over http or https, or from a local source's folder.

Everything that comes back is hostile: sizes are limited while reading, redirects are followed one by
one and counted, addresses are vetted where they are connected to (``network``), waits are bounded.
A body goes straight to a file and through SHA-256; a broken one is resumed where the origin allows it.
No error text holds credentials: of a URL they show scheme, host and path.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trio

from p2prss.feed.origin.access import USER_AGENT, Access
from p2prss.feed.origin.download import Download
from p2prss.feed.origin.form import post_form
from p2prss.feed.origin.local_file import copy_file
from p2prss.feed.origin.part import Part, read_part
from p2prss.feed.origin.reply import Fetched, Validators
from p2prss.feed.origin.retries import Retries
from p2prss.feed.origin.session import Session
from p2prss.feed.origin.url import path_of, source_url, urlsplit_or_fail

__all__ = ["USER_AGENT", "Access", "Fetched", "Fetcher", "Retries", "Validators"]


class Fetcher:
    """Fetches what a source and its feed name. Use it as an async context manager.

    Args: source: what the user typed, a URL or a local path. Its host and port may be private and get
    its credentials; when it is a file, files in its folder can be fetched by ``file:`` URLs.
    access: what else is allowed and given; source_was_public: what an earlier fetcher found of the source.
    """

    def __init__(self, source: str, access: Access | None = None, *, source_was_public: bool = False) -> None:
        self.source_url = source_url(source)
        parts = urlsplit(self.source_url)
        self._folder = path_of(parts).parent.resolve() if parts.scheme == "file" else None
        self._session = Session(self.source_url, access, source_was_public=source_was_public)

    @property
    def is_local(self) -> bool:
        """Whether the source is a file of this machine."""
        return self._folder is not None

    @property
    def source_was_public(self) -> bool:
        """Whether the source's host has ever been on the internet; see ``network.VettingBackend``."""
        return self._session.source_was_public

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.aclose()

    async def fetch(
        self,
        url: str,
        into: Path,
        *,
        max_bytes: int,
        validators: Validators | None = None,
        retries: Retries | None = None,
        compressed: bool = False,
        refuse_html: bool = False,
        progress: Callable[[int], None] | None = None,
        total_seconds: float = math.inf,
    ) -> Fetched:
        """Get one body into the file ``into``, which is overwritten.

        The file belongs to the caller, also after an error.

        Args: validators: ask only for a change; compressed: accept gzip (never for media, whose exact
        bytes count); refuse_html: a web page is an error; progress: called with bytes on the way;
        total_seconds: the longest that one attempt may take.
        Raises: FetchError (GoneError for what is gone), or OriginBusyError, naming the cause in one line;
        StorageError when the file cannot be written.
        """
        if urlsplit_or_fail(url).scheme == "file":
            return await trio.to_thread.run_sync(copy_file, url, self._folder, into, max_bytes)
        download = Download(
            self._session, url, into, max_bytes, retries or Retries(), refuse_html, progress, total_seconds
        )
        headers = {"accept-encoding": "gzip" if compressed else "identity"}
        if validators and validators.etag:
            headers["if-none-match"] = validators.etag
        if validators and validators.last_modified:
            headers["if-modified-since"] = validators.last_modified
        return await download.run(headers)

    async def read_part(self, url: str, start: int, stop: int) -> Part | None:
        """Some bytes of what is at an http or https URL, to compare; None when the origin proves nothing."""
        return await read_part(self._session, url, start, stop)

    async def post_form(self, url: str, form: bytes) -> int:
        """Send a form to a hub; see ``form.post_form``."""
        return await post_form(self._session, url, form)
