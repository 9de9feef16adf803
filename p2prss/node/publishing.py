"""Publishing: a node mirrors a source into a feed of its own."""

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from p2prss.errors import FeedError, FetchError, P2prssError, UsageError
from p2prss.feed.archive.records import CapturePolicy
from p2prss.feed.origin.access import USER_AGENT, Access
from p2prss.feed.origin.url import path_of, secrets_of, source_url, urlsplit_or_fail
from p2prss.feed.sources.adopt import AdoptShelf
from p2prss.node.events import Notice, Ready
from p2prss.node.hub_subscriber import check_callback
from p2prss.node.open_feed import OpenFeed
from p2prss.node.orders import PublishOrder
from p2prss.node.publisher import Confirm, Publisher
from p2prss.node.saved_feeds import STATE_KIND, Asked, Role, SavedFeed, new_feed, new_seed_name
from p2prss.node.source_access import source_access
from p2prss.node.sources import open_source

if TYPE_CHECKING:
    from p2prss.node.node import Node


async def publish_feed(
    node: "Node", order: PublishOrder, confirm: Confirm, *, turn: trio.CapacityLimiter | None = None
) -> None:
    """Mirror a source that is one feed; each update waits for its ``turn``.

    Raises: FeedError, TryAgainError, UsageError, StorageError, ConflictError.
    """
    source = source_of(order)
    saved = node.saved.by_source(source)
    if order.feed is not None:
        saved = _moved(node, saved, order.feed, source)
    if saved is None:
        _tell_what_is_gone(node, source)
        seed_name = new_seed_name()
        key = await trio.to_thread.run_sync(node.opener.new_own_key, seed_name)
        saved = msgspec.structs.replace(
            new_feed(key, Role.PUBLISH), source=source, seed_name=seed_name, reserved=True
        )
    saved = node.saved.save(_with_order(saved, order))
    feed = await node.open_saved(saved, eager=False)
    if feed.conflict is not None:
        raise feed.conflict
    before = await _asked_before(feed, order)
    asked = _what_is_asked(order, before)
    _tell_what_changes(node, feed, order, before.policy, asked.policy)
    feed.saved = node.saved.save(msgspec.structs.replace(feed.saved, asked=asked))
    if order.once or node.http_url is None:  # hubs have nobody to call
        asked = msgspec.structs.replace(asked, websub_callback=None)
    node.library.add(feed)
    node.library.ready = True
    told: list[Ready] = []

    def tell_ready() -> None:
        if not told:
            told.append(node.ready(feed, with_feed_url=True))
            node.emit(told[0])

    if feed.drive.version > 1:
        tell_ready()
    try:
        made = await open_source(source, feed.key, node.store)
        publisher = Publisher(
            feed,
            order,
            asked,
            _access(asked, may_be_private=order.access.source_may_be_private),
            store=node.store,
            scratch=node.settings.home.incoming,
            emit=node.emit,
            confirm=confirm,
            on_title=partial(node.rename, feed),
            on_text=tell_ready,
            on_verdict=partial(node.announce_if, feed),
            made=made,
            shelf=AdoptShelf(order.adopt) if order.adopt is not None else None,
            turn=turn,
        )
        with feed.scope, node.called_by_hub(publisher.hub):
            await publisher.run(once=order.once)
    except FetchError as error:
        if source.startswith("file:"):  # then it is not the network's fault
            raise FeedError(str(error)) from None
        raise
    finally:
        if feed.drive.version <= 1:  # not even its text was ever read
            node.delete_feed(feed)


def _moved(node: "Node", there: SavedFeed | None, text: str, source: str) -> SavedFeed:
    """The feed that a text means, which comes from another source from now on.

    What was asked for of the old source's server, its secrets above all, is not for the new one.
    """
    saved = node.saved.find(text)
    if saved.role is not Role.PUBLISH or saved.withdrawn is not None:
        raise UsageError(f"{saved.label} is not published from here")
    if saved.source == source:
        return saved
    if there is not None:
        raise UsageError(f"this source is published already, as {there.slug or there.key}")
    asked = saved.asked
    if asked is not None:
        asked = msgspec.structs.replace(asked, credentials=(), private_hosts=(), websub_callback=None)
    node.store.delete_record(STATE_KIND, saved.key)  # what the old one's server said
    return msgspec.structs.replace(saved, source=source, asked=asked)


def _tell_what_is_gone(node: "Node", source: str) -> None:
    """A folder that was moved is another source: who publishes it may mean the feed they have."""
    if not source.startswith("file:"):
        return
    for saved in node.saved.all():
        old = saved.source or ""
        if saved.role is not Role.PUBLISH or saved.withdrawn is not None or not old.startswith("file:"):
            continue
        path = path_of(urlsplit_or_fail(old))
        if not os.path.lexists(path):
            text = (
                f"{saved.label} was published from {path}, which is gone; this is a new feed."
                f" If it is the same show, p2prss remove the new one, and publish with"
                f" --feed {saved.slug or saved.key}"
            )
            node.emit(Notice(message=text, key=saved.key))


def _with_order(saved: SavedFeed, order: PublishOrder) -> SavedFeed:
    """What is saved of a feed besides ``asked``, and on top of it what the order says."""
    from_list = order.access is not None and not order.access.source_may_be_private
    return msgspec.structs.replace(
        saved,
        name=saved.name if order.name is None else order.name or None,
        unlisted=saved.unlisted if order.unlisted is None else order.unlisted,
        removed=order.removed or saved.removed,
        allow_locked=saved.allow_locked or order.allow_locked,
        reserved=saved.reserved and not order.allow_locked,
        from_list=from_list,
    )


def _tell_what_changes(
    node: "Node", feed: OpenFeed, order: PublishOrder, before: CapturePolicy | None, now: CapturePolicy | None
) -> None:
    """Say what a user may not expect of a feed that is here already."""
    told: list[str] = []
    if feed.drive.version > 1:
        if before and now and (was := wanted_words(before)) != (will := wanted_words(now)):
            told.append(f"{will} is wanted from now on; until now it was {was}")
        if feed.saved.unlisted and order.unlisted is None:
            told.append("it is announced nowhere, as asked for before; --listed ends that")
        if order.unlisted is False and feed.saved.reserved:
            told.append("it is announced nowhere still, as its publisher has locked it; see --allow-locked")
        if order.name is not None and feed.slug:
            told.append(
                f"it is called that from now on; its short name {feed.slug} stays, as addresses have it"
            )
    for message in told:
        node.emit(Notice(message=f"{feed.title}: {message}", key=feed.saved.key))


def wanted_words(policy: CapturePolicy) -> str:
    """``the media of the newest 5 episodes (--latest 5)``."""
    if not policy.media:
        return "no media (--no-media)"
    if policy.since is not None:
        return f"the media of episodes since {policy.since:%Y-%m-%d} (--since {policy.since:%Y-%m-%d})"
    if policy.latest is not None:
        return f"the media of the newest {policy.latest} episodes (--latest {policy.latest})"
    return "the media of all episodes"


async def _asked_before(feed: OpenFeed, order: PublishOrder) -> Asked:
    """What was asked for the last time; of a home that did not save it, what the mirror tells of it."""
    if order.forget_options:
        return Asked()
    if feed.saved.asked is not None:
        return feed.saved.asked
    policy = None
    if feed.drive.version > 1:
        with suppress(P2prssError):  # the mirror meets it too, and tells
            policy = (await feed.archive.info()).policy
    return Asked(policy=policy)


def _what_is_asked(order: PublishOrder, before: Asked) -> Asked:
    """What was asked for until now, and on top of it what the order says."""
    policy, wanted, access = before.policy or CapturePolicy(), order.wanted, order.access
    if wanted is not None:
        media, latest = wanted.latest != 0, wanted.latest or None
        policy = msgspec.structs.replace(policy, media=media, latest=latest, since=wanted.since)
    if order.alternates is not None:
        policy = msgspec.structs.replace(policy, alternates=order.alternates)
    if order.recapture is not None:
        policy = msgspec.structs.replace(policy, recapture=order.recapture)
    return Asked(
        policy=policy,
        interval=order.interval if order.interval is not None else before.interval,
        websub_callback=order.websub_callback or before.websub_callback,
        user_agent=access.user_agent if access.user_agent != USER_AGENT else before.user_agent,
        private_hosts=access.private_hosts or before.private_hosts,
        credentials=access.credentials or before.credentials,
    )


def _access(asked: Asked, *, may_be_private: bool) -> Access:
    """How the source is approached, with the hosts that the environment of this run allows."""
    return Access(
        user_agent=asked.user_agent or USER_AGENT,
        private_hosts=(*asked.private_hosts, *source_access().private_hosts),
        credentials=asked.credentials,
        source_may_be_private=may_be_private,
    )


def source_of(order: PublishOrder) -> str:
    """The source as a URL; error texts leave it out, as it may hold a password."""
    if not order.source:
        raise UsageError("the source is empty; give a feed's URL or a feed file")
    try:
        url = source_url(order.source)
        urlsplit_or_fail(url)
    except FetchError as error:
        raise UsageError(str(error)) from None
    if order.websub_callback is not None:
        check_callback(order.websub_callback)
        if order.once:
            raise UsageError("--websub-callback is for a node that goes on: leave out --once")
    secrets = [f"the source's address has {what}" for what, _ in secrets_of(url)]
    secrets += ["the source needs credentials"] if order.access.credentials else []
    if not order.allow_private and secrets:
        raise UsageError(
            f"{secrets[0]}, so it may not be meant for all; what is published"
            " can be read by whoever has its link, for good: add --allow-private if that is what you want"
        )
    return url
