"""Who may change something over HTTP; pure.

The home's token is the one secret. A program shows it as ``Authorization: Bearer``: no web page can
have a browser send that header to us, as we grant no foreign page anything (CORS). A browser gets it
in the address that ``p2prss page`` prints, and from then on holds a cookie derived from it, which no
script can read (HttpOnly) and no other site's request carries (SameSite=Strict).

Cookies know no ports: another server on this computer is the "same site", and is even sent our
cookie. So a form needs a second thing that only our own page knows: a hidden value, likewise derived
from the token, in the page that no other origin can read. That alone would do, with any browser and
without a script; a foreign ``Origin`` is refused on top of it. The cookie is not the token, so who
gets to see it cannot use the API, nor, without reading the page, a form.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

COOKIE_DAYS: Final = 90
CODE_SECONDS: Final = 60  # in which a code lets a browser in
BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Gate:
    """Compares what a request shows with the home's token; all comparisons take the same time."""

    token: str

    @property
    def cookie_name(self) -> str:
        """Of this home: those of several homes on one host are kept apart."""
        return f"p2prss-{self._derive('name')[:12]}"

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: 64 hex digits."""
        return self._derive("cookie")

    @property
    def form_value(self) -> str:
        """What a form of our own page has in its hidden field: 64 hex digits."""
        return self._derive("form")

    def code(self, now: float, nonce: str) -> str:
        """What lets a browser in once and soon, where the token must not stand: others see what a
        program is started with.

        Args: now: in seconds since 1970; nonce: letters and digits that were not used before.
        """
        until = int(now) + CODE_SECONDS
        return f"{until}.{nonce}.{self._derive(f'code {until} {nonce}')}"

    def code_holds_until(self, code: str) -> int | None:
        """The end of a code of ours, in seconds since 1970; None of any other text."""
        until, _, rest = code.partition(".")
        nonce, _, _ = rest.partition(".")
        if not (self.token and until.isascii() and until.isdecimal() and len(until) <= 12):
            return None
        return int(until) if _same(code, self.code(int(until) - CODE_SECONDS, nonce)) else None

    def is_token(self, text: str) -> bool:
        """Whether this is the token."""
        return bool(self.token) and _same(text, self.token)

    def knows_cookie(self, value: str | None) -> bool:
        """Whether a browser was let in."""
        return bool(self.token) and value is not None and _same(value, self.cookie_value)

    def is_form(self, value: str | None) -> bool:
        """Whether a form comes from our own page."""
        return bool(self.token) and value is not None and _same(value, self.form_value)

    def is_bearer(self, authorization: str | None) -> bool:
        """Whether a program shows the token."""
        text = authorization or ""
        return text[: len(BEARER)].lower() == BEARER and self.is_token(text[len(BEARER) :].strip())

    def _derive(self, purpose: str) -> str:
        return hmac.new(self.token.encode(), f"p2prss page {purpose}".encode(), sha256).hexdigest()


class UsedCodes:
    """Which codes have let somebody in, so that none does so twice."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}  # code -> until when, in seconds since 1970

    def opens(self, gate: Gate, code: str, now: float) -> bool:
        """Whether a code lets in now; from then on it does not."""
        until = gate.code_holds_until(code)
        if until is None or not now <= until <= now + CODE_SECONDS + 1 or code in self._used:
            return False
        self._used = {one: end for one, end in self._used.items() if end >= now} | {code: until}
        return True


def is_own_origin(origin: str | None, authority: str) -> bool:
    """Whether a request's ``Origin`` is the host it was sent to, or there is none.

    Without a look at the scheme: behind a proxy that speaks TLS it is another one. ``null`` is foreign.
    """
    if origin is None:
        return True
    try:
        return bool(authority) and urlsplit(origin).netloc.lower() == authority.lower()
    except ValueError:
        return False


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
