"""One-tap links: the same feed address in the schemes that podcast apps register for; pure.

Source: the apps' own documentation and source (AntennaPod ``UrlChecker``, Apple's ``podcast:`` and ``itpc:``,
gPodder's ``gpodder:``, the customary ``pcast:`` and ``feed:``).
"""

from typing import Final, NamedTuple

HONEST_LINE: Final = (
    "Apps that fetch on the phone itself reach this address (AntennaPod, Apple Podcasts, gPodder,"
    " Podcast Addict, Kasts); those that fetch on their own servers cannot (Pocket Casts, Overcast, Castbox,"
    " Spotify)."
)


class SubscribeLink(NamedTuple):
    """``url`` opens ``app`` with the feed."""

    app: str
    url: str


def subscribe_links(feed_url: str) -> list[SubscribeLink]:
    """Links for one feed. Args: feed_url: ``http://…`` or ``https://…``."""
    bare = feed_url.partition("://")[2]
    return [
        SubscribeLink("AntennaPod", f"antennapod-subscribe://{bare}"),
        SubscribeLink("Apple Podcasts", f"podcast://{bare}"),
        SubscribeLink("iTunes", f"itpc://{bare}"),
        SubscribeLink("gPodder", f"gpodder://{bare}"),
        SubscribeLink("Another podcast app", f"pcast://{bare}"),
        SubscribeLink("A feed reader", f"feed:{feed_url}"),
    ]
