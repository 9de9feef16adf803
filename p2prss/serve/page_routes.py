"""The URLs of the page: what a browser may read, and the forms that change something.

A form is carried out when the visitor was let in (cookie), the form is one of our own page (hidden value)
and no foreign origin stands behind it; why, is in ``token``. Forms answer with a redirect (303), so
that nothing is done twice by loading a page again.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from time import time
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from p2prss.crypto.key_text import format_key
from p2prss.errors import NetworkError, P2prssError, TryAgainError, UnnamedFeedError, UsageError
from p2prss.feed.origin.url import redact
from p2prss.serve.actions import AddAs, AddRequest, HomeActions
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.live import Live
from p2prss.serve.pages import Pages, Visitor
from p2prss.serve.responses import plain
from p2prss.serve.token import COOKIE_DAYS, Gate, UsedCodes, is_own_origin
from p2prss.units import KIB

MAX_FORM_BYTES: Final = 16 * KIB  # of what a form or an API call sends
MAX_FORM_FIELDS: Final = 16
BODY_SECONDS: Final = 10.0  # for it to arrive
MAX_PAGE: Final = 10_000  # number of a page of episodes

HOW_TO_SIGN_IN: Final = "run `p2prss page` and open the address that it prints"

Answer = Callable[[Request], Awaitable[ASGIApp]]
MakeRoute = Callable[[str, Answer], Route]


class PageRoutes:
    """Reads and forms of the page."""

    def __init__(
        self, library: Library, actions: HomeActions | None, base_url: Callable[[Request], str]
    ) -> None:
        self.pages = Pages(library, actions)
        self.live = Live(library, actions)
        self._library = library
        self._actions = actions
        self._base_url = base_url
        self._codes = UsedCodes()

    def table(self, reading: MakeRoute) -> list[Route]:
        """All routes; ``reading`` makes one for GET, HEAD and OPTIONS."""
        return [
            reading("/", self.index),
            reading("/add", self.add_form),
            reading("/shows/{feed}", self.show),
            reading("/shows/{feed}/remove", self.remove_form),
            reading("/shows/{feed}/{item_id}", self.episode),
            reading("/feeds/{feed}/qr.svg", self.qr),
            reading("/events", self.events),
            Route("/add", self.add, methods=["POST"]),
            Route("/shows/{feed}/remove", self.remove, methods=["POST"]),
        ]

    # ---- reading

    async def index(self, request: Request) -> Response:
        """The first page; with ``?token=`` the browser is let in and sent on to the clean address."""
        if (shown := request.query_params.get("token")) is not None:
            return self._let_in(request, shown)
        return await self.pages.index(self._visitor(request))

    async def show(self, request: Request) -> Response:
        """One show."""
        text = request.query_params.get("page", "1")
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= MAX_PAGE):
            raise HTTPException(404)
        return _found(await self.pages.show(self._feed(request), self._visitor(request), int(text)))

    async def episode(self, request: Request) -> Response:
        """One episode."""
        item_id = request.path_params["item_id"]
        return _found(await self.pages.episode(self._feed(request), item_id, self._visitor(request)))

    async def add_form(self, request: Request) -> Response:
        """The form that adds a show; ``?source=`` fills it in, and does nothing else."""
        source = request.query_params.get("source", "")[:4096]
        return self.pages.add(self._visitor(request), source=source)

    async def remove_form(self, request: Request) -> Response:
        """The question before a show is removed."""
        return self.pages.removal(self._feed(request), self._visitor(request))

    async def qr(self, request: Request) -> Response:
        """A QR code."""
        wanted = request.query_params.get("of", "link")
        return _found(self.pages.qr(self._feed(request), self._base_url(request), wanted))

    async def events(self, request: Request) -> ASGIApp:
        """Live progress; another site learns nothing here, and takes nobody's place."""
        if not is_own_request(request, self._base_url(request)):
            return plain(403, "asked for by another site")
        return self.live.answer

    def missing(self, request: Request, *, starting: bool) -> Response:
        """What to do at an address where nothing is; while the saved shows are being opened: wait."""
        return self.pages.missing(self._visitor(request), 503 if starting else 404)

    # ---- forms

    async def add(self, request: Request) -> Response:
        """Add a show."""
        form, refusal = await self._form(request)
        if refusal is not None or self._actions is None:
            return refusal or plain(404, "not found")
        source, latest = form.get("source", "").strip(), form.get("latest", "3")
        again = {"source": source, "latest": latest}
        if not source:
            return self.pages.add(
                self._visitor(request), status=400, error="Enter a key, a link or an address.", **again
            )
        try:
            wanted = AddRequest(
                source=source,
                latest=_latest(latest),
                confirmed="confirmed" in form,
                add_as=_add_as(form.get("as", AddAs.AUTO)),
            )
            key = await self._actions.add(wanted)
        except P2prssError as error:
            if isinstance(error, UnnamedFeedError) and error.feed_url is not None:
                return self.pages.offer(self._visitor(request), error.feed_url, latest)
            if isinstance(error, UnnamedFeedError):
                address = redact(source) if "://" in source else source
                text = (
                    f"{address} leads to no podcast and no feed. Enter the address of the feed itself,"
                    " or ask the people who make the show for its key."
                )
                return self.pages.add(self._visitor(request), status=422, error=text, **again)
            status = (
                400
                if isinstance(error, UsageError)
                else 502
                if error.exit_code in (NetworkError.exit_code, TryAgainError.exit_code)
                else 500
            )
            return self.pages.add(self._visitor(request), status=status, error=str(error), **again)
        return RedirectResponse(f"shows/{format_key(key)}", 303)

    async def remove(self, request: Request) -> Response:
        """Remove a show."""
        _, refusal = await self._form(request)
        if refusal is not None or self._actions is None:
            return refusal or plain(404, "not found")
        feed = self._feed(request)
        try:
            await self._actions.remove(feed.key)
        except P2prssError as error:
            return self.pages.refusal(self._visitor(request), 500, str(error))
        return RedirectResponse("../../", 303)

    # ---- who it is

    def _visitor(self, request: Request) -> Visitor:
        base_url = self._base_url(request)
        depth = request.scope["path"].count("/") - 1
        root = "../" * depth or "./"
        if self._actions is None:
            return Visitor(base_url, root)
        gate = Gate(self._actions.token)
        knows = gate.knows_cookie(request.cookies.get(gate.cookie_name))
        return Visitor(base_url, root, gate.form_value if knows else None, can_sign_in=True)

    def _let_in(self, request: Request, shown: str) -> Response:
        gate = Gate(self._actions.token) if self._actions is not None else Gate("")
        if not (gate.is_token(shown) or self._codes.opens(gate, shown, time())):
            text = f"This address is not, or no longer, that of your page: {HOW_TO_SIGN_IN}."
            return self.pages.refusal(self._visitor(request), 403, text, "This address does not let you in")
        # A browser that another site or a program has sent here shows the new cookie only to a page that our
        # own one leads to, not to where it is redirected (SameSite=Strict).
        if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            answer: Response = RedirectResponse("./", 303, headers={"cache-control": "no-store"})
        else:
            answer = self.pages.welcome(self._visitor(request))
        answer.set_cookie(
            gate.cookie_name,
            gate.cookie_value,
            max_age=COOKIE_DAYS * 86_400,
            secure=self._base_url(request).startswith("https:"),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _form(self, request: Request) -> tuple[dict[str, str], Response | None]:
        """The fields of a form, and why it is refused, if it is."""
        visitor = self._visitor(request)
        if self._actions is None:
            return {}, plain(404, "not found")
        if not is_own_request(request, visitor.base_url):
            return {}, self.pages.refusal(visitor, 403, "This form was sent by another site.")
        if visitor.form_value is None:
            text = f"This page is for reading only until you {HOW_TO_SIGN_IN}."
            return {}, self.pages.refusal(visitor, 403, text)
        body = await read_body(request)
        if body is None:
            return {}, plain(413, "too much was sent")
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            return {}, plain(400, "this is no form of ours")
        if not Gate(self._actions.token).is_form(form.get("form")):
            return {}, self.pages.refusal(visitor, 403, "This form is out of date: load its page again.")
        return form, None

    def _feed(self, request: Request) -> ServedFeed:
        feed = self._library.find(request.path_params["feed"])
        if feed is None:
            raise HTTPException(404)
        return feed


def is_own_request(request: Request, base_url: str) -> bool:
    """Whether no other site has sent this, by ``Origin`` and by ``Sec-Fetch-Site``, where they are given."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    own = (request.headers.get("host", ""), urlsplit(base_url).netloc)  # a proxy may change the first
    return any(is_own_origin(origin, authority) for authority in own)


async def read_body(request: Request) -> bytes | None:
    """What was sent; None when it is too much, or does not arrive."""
    body = bytearray()
    try:
        with trio.fail_after(BODY_SECONDS):
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > MAX_FORM_BYTES:
                        return None
    except (ClientDisconnect, trio.TooSlowError):
        return None
    return bytes(body)


def _found(answer: Response | None) -> Response:
    if answer is None:
        raise HTTPException(404)
    return answer


def _add_as(text: str) -> AddAs:
    try:
        return AddAs(text)
    except ValueError:
        raise UsageError("choose whether to follow or to publish it") from None


def _latest(text: str) -> int | None:
    """The choice of a form: ``all``, or the number of the newest episodes."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise UsageError("choose how many episodes to keep")
    return int(text)
