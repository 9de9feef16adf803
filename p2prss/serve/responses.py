"""Headers and short answers that every part of the HTTP side shares."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from starlette.responses import PlainTextResponse, Response

from p2prss.serve.codings import Coding, choose_coding, encode
from p2prss.serve.ranges import if_none_match_hits

RETRY_AFTER_SECONDS: Final = 15
"""When to ask again for what nobody could deliver: about the time a search for peers takes."""

IMMUTABLE: Final = "public, max-age=31536000, immutable"  # the bytes under this URL never change

SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"x-robots-tag", b"noindex"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer that does not say otherwise; the last keeps other web pages from embedding what they
could only guess."""

SANDBOX_POLICY: Final = "default-src 'none'; sandbox"
"""For bytes of a stranger that a browser might otherwise run: no script, no origin, no loads."""

CORS_HEADERS: Final[dict[str, str]] = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Accept-Ranges, Content-Length, Content-Range, ETag, Link",
    "cross-origin-resource-policy": "cross-origin",
}
PREFLIGHT_HEADERS: Final[dict[str, str]] = {
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-allow-headers": "Range, If-Range, If-None-Match",
    "access-control-max-age": "86400",
}


def guarded_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with ``SECURITY_HEADERS``, where they are not among them already."""
    found = list(headers)
    named = {name.lower() for name, _ in found}
    return found + [(name, value) for name, value in SECURITY_HEADERS if name not in named]


def plain(status: int, text: str, **headers: str) -> Response:
    """A one-line answer in plain text; ``_`` in a header's name stands for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PlainTextResponse(f"{text}\n", status, {"cache-control": "no-store"} | named)


def unavailable(text: str) -> Response:
    """503: not now; says when to try again."""
    return plain(503, text, retry_after=str(RETRY_AFTER_SECONDS), **CORS_HEADERS)


def not_modified(etag: str, **headers: str) -> Response:
    """304: the client's copy is still right."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status_code=304, headers={"etag": etag} | named)


def coded(body: bytes, asked: Mapping[str, str], **headers: str) -> Response:
    """A text of ours, in the coding its client likes best, with a strong ETag; or 304.

    Args: asked: the request's headers; headers: as in ``plain``, with ``content_type``.
    """
    coding = choose_coding(asked.get("accept-encoding"))
    digest = blake2b(body, digest_size=16).hexdigest()
    etags = {one: f'"{digest}-{one}"' for one in Coding}
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"vary": "Accept-Encoding"}
    if if_none_match_hits(asked.get("if-none-match"), *etags.values()):
        named.pop("content-type", None)
        return Response(status_code=304, headers=named | {"etag": etags[coding]})
    if coding is not Coding.IDENTITY:
        named["content-encoding"] = coding
    return Response(encode(body, coding), headers=named | {"etag": etags[coding]})
