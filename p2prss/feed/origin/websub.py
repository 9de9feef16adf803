"""WebSub, the subscriber's side: what to ask a hub for, and what to believe of what comes.

Goal: to hear soon that a feed has changed. Non-goal: to take its content from a hub; a notification only
says that now is a good time for an ordinary look. Looks go on without it, so nothing is lost with a hub.
Source: W3C WebSub, sections 4 to 8. Pure: addresses, forms, times and chance come in, values go out.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from lxml import etree

from p2prss.feed.document.names import name_of

LEASE_SECONDS: Final = 10 * 86400  # asked for
MIN_LEASE_SECONDS: Final = 300.0  # shorter ones are renewed no more often
MAX_LEASE_SECONDS: Final = 90 * 86400.0
RENEW_SHARE: Final = 0.8  # of a lease, after which it is renewed
RETRY_SECONDS: Final = 3600.0  # after a hub that refuses, or never verifies
MAX_LINKS: Final = 50  # of a channel
MAX_CHALLENGE: Final = 1024  # characters
TOKEN_BYTES: Final = 24  # of chance in the callback's path; as many in the secret

_HASHES: Final = ("sha256", "sha384", "sha512", "sha1")
_SIGNATURE: Final = re.compile(r"(sha1|sha256|sha384|sha512)=([0-9a-f]{40,128})")


@dataclass(frozen=True, slots=True)
class Offer:
    """A hub, and the topic under which it knows the feed."""

    hub: str
    topic: str


def find_offer(channel_xml: bytes, links: Sequence[tuple[str, str]], feed_url: str) -> Offer | None:
    """The hub that a feed offers: by Link headers, else in its XML; None without one.

    Args: links: relation and absolute address of each Link header; feed_url: where the feed was got.
    """
    found = [*links, *_links_in(channel_xml, feed_url)]
    hubs = [url for name, url in found if name == "hub" and urlsplit(url).scheme in ("http", "https")]
    topics = [url for name, url in found if name == "self" and urlsplit(url).scheme in ("http", "https")]
    return Offer(hubs[0], topics[0] if topics else feed_url) if hubs else None


def _links_in(channel_xml: bytes, feed_url: str) -> list[tuple[str, str]]:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        channel = etree.fromstring(channel_xml, parser).find("channel")
    except (etree.XMLSyntaxError, ValueError):
        return []
    found: list[tuple[str, str]] = []
    for one in channel if channel is not None else ():
        if name_of(one) == "atom:link":
            with suppress(ValueError):  # an address that cannot be read
                url = urljoin(feed_url, one.get("href", "").strip())
                urlsplit(url)
                found.append((one.get("rel", "").strip().lower(), url))
    return found[:MAX_LINKS]


@dataclass(slots=True)
class Subscription:
    """One feed at one hub: a machine that is asked when it is time, and told what came.

    Args: callback: our public address, with a path that nobody guesses; secret: shared with the hub.
    """

    offer: Offer
    callback: str
    secret: str = field(repr=False)
    due_at: float = 0.0  # when to ask the hub, by the caller's clock
    is_active: bool = False

    def request(self, now: float) -> bytes:
        """The form to POST to the hub. It is to verify within a while, or is asked again."""
        self.due_at = now + RETRY_SECONDS
        return urlencode(
            {
                "hub.mode": "subscribe",
                "hub.topic": self.offer.topic,
                "hub.callback": self.callback,
                "hub.secret": self.secret,
                "hub.lease_seconds": str(LEASE_SECONDS),
            }
        ).encode()

    def verify(self, query: str, now: float) -> str | None:
        """What to answer to a hub's GET with this query: its challenge, or None for 404.

        Only a subscription to our very topic is confirmed, never the end of one.
        """
        try:
            given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
        except ValueError:
            return None
        if given.get("hub.topic") != self.offer.topic:
            return None
        if given.get("hub.mode") == "denied":
            self.is_active = False
            return None
        challenge = given.get("hub.challenge", "")
        if given.get("hub.mode") != "subscribe" or not 0 < len(challenge) <= MAX_CHALLENGE:
            return None
        text = given.get("hub.lease_seconds", "")
        lease = float(text) if re.fullmatch(r"[0-9]{1,10}", text) else float(LEASE_SECONDS)
        lease = min(max(lease, MIN_LEASE_SECONDS), MAX_LEASE_SECONDS)
        self.due_at = now + lease * RENEW_SHARE
        self.is_active = True
        return challenge

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a notification bears the HMAC that only the hub can make."""
        found = _SIGNATURE.fullmatch(headers.get("x-hub-signature", "").strip().lower())
        if found is None or found[1] not in _HASHES:
            return False
        expected = hmac.new(self.secret.encode(), body, found[1]).hexdigest()
        return hmac.compare_digest(expected, found[2])
