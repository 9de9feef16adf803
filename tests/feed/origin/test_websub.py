"""What a hub is asked, and which of its calls are believed."""

import hashlib
import hmac
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.feed.origin.websub import (
    LEASE_SECONDS,
    MAX_LEASE_SECONDS,
    RETRY_SECONDS,
    Offer,
    Subscription,
    find_offer,
)

FEED = "https://show.example/feed.xml"
CHANNEL = '<rss xmlns:atom="http://www.w3.org/2005/Atom"><channel>{}</channel></rss>'
OFFER = Offer("https://hub.example/", FEED)


def subscription() -> Subscription:
    return Subscription(OFFER, "https://me.example/websub/token", "geheim")


@pytest.mark.parametrize(
    ("inside", "links", "offer"),
    [
        ("", [], None),
        ('<atom:link rel="hub" href="https://hub.example/"/>', [], OFFER),
        ('<atom:link rel="hub" href="/hub"/>', [], Offer("https://show.example/hub", FEED)),
        (
            '<atom:link rel="hub" href="https://hub.example/"/><atom:link rel="self" href="/other.xml"/>',
            [],
            Offer("https://hub.example/", "https://show.example/other.xml"),
        ),
        ("", [("hub", "https://hub.example/"), ("self", FEED)], OFFER),
        ('<atom:link rel="hub" href="https://b.example/"/>', [("hub", "https://hub.example/")], OFFER),
        ('<atom:link rel="hub" href="javascript:1"/><atom:link rel="hub" href="http://["/>', [], None),
        ('<item><atom:link rel="hub" href="https://hub.example/"/></item>', [], None),
    ],
)
def test_what_a_feed_offers(inside: str, links: list[tuple[str, str]], offer: Offer | None) -> None:
    assert find_offer(CHANNEL.format(inside).encode(), links, FEED) == offer


def test_the_form_for_a_hub() -> None:
    one = subscription()
    form = {name: values[0] for name, values in parse_qs(one.request(100.0).decode()).items()}
    assert form == {
        "hub.mode": "subscribe",
        "hub.topic": FEED,
        "hub.callback": "https://me.example/websub/token",
        "hub.secret": "geheim",
        "hub.lease_seconds": str(LEASE_SECONDS),
    }
    assert one.due_at == 100.0 + RETRY_SECONDS
    assert "geheim" not in repr(one)


@pytest.mark.parametrize(
    ("lease", "due"),
    [
        ("1000", 800),
        ("1", 240),
        ("", LEASE_SECONDS * 0.8),
        ("9999999999", MAX_LEASE_SECONDS * 0.8),
        ("x", 691200),
    ],
)
def test_a_lease_is_renewed_before_it_ends(lease: str, due: float) -> None:
    one = subscription()
    query = {"hub.mode": "subscribe", "hub.topic": FEED, "hub.challenge": "abc", "hub.lease_seconds": lease}
    assert one.verify(urlencode(query), 0.0) == "abc"
    assert one.due_at == pytest.approx(due)
    assert one.is_active


@pytest.mark.parametrize(
    "change",
    [
        {"hub.topic": "https://other.example/"},
        {"hub.mode": "unsubscribe"},
        {"hub.mode": "denied"},
        {"hub.challenge": ""},
        {"hub.challenge": "x" * 2000},
    ],
)
def test_what_was_not_asked_for_is_not_confirmed(change: dict[str, str]) -> None:
    one = subscription()
    query = {"hub.mode": "subscribe", "hub.topic": FEED, "hub.challenge": "abc"}
    assert one.verify(urlencode(query | change), 0.0) is None
    assert not one.is_active


@given(st.text())
def test_any_query_is_answered_or_refused(query: str) -> None:
    subscription().verify(query, 0.0)


@pytest.mark.parametrize("kind", ["sha1", "sha256", "sha384", "sha512"])
def test_a_notification_bears_the_hmac_of_the_secret(kind: str) -> None:
    one, body = subscription(), b"<rss/>"
    good = hmac.new(b"geheim", body, getattr(hashlib, kind)).hexdigest()
    assert one.is_genuine({"x-hub-signature": f"{kind}={good}"}, body)
    assert not one.is_genuine({"x-hub-signature": f"{kind}={good}"}, body + b" ")
    assert not one.is_genuine({"x-hub-signature": f"{kind}={'0' * len(good)}"}, body)
    assert not one.is_genuine({"x-hub-signature": f"md5={good[:32]}"}, body)
    assert not one.is_genuine({}, body)
