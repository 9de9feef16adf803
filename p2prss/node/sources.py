"""What a source is that a user names: a feed, or one of the things that a feed is made of."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.feed.mirroring.shelf import MadeFeed
from p2prss.feed.origin.url import path_of
from p2prss.feed.sources.folder_source import FolderSource
from p2prss.feed.sources.show_settings import SETTINGS_NAME
from p2prss.feed.sources.site import find_site
from p2prss.log.store import Store
from p2prss.node.publisher import FeedRecord
from p2prss.node.saved_feeds import FOLDER_KIND, SITE_KIND


async def open_source(url: str, key: CoreKey, store: Store) -> MadeFeed | None:
    """What makes the feed of a source that is no feed itself; None for a feed.

    Args: url: of the source, ``file:`` for a local one.
    Raises: FeedError for a folder of which no feed can be made.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    root = path_of(parts)
    if not await trio.to_thread.run_sync(os.path.isdir, root):
        return None
    return await trio.to_thread.run_sync(_open_folder, Path(root), format_key(key), store)


def _open_folder(root: Path, key: str, store: Store) -> MadeFeed:
    """A site or a feed where there is one, else the media; ``show.toml`` says that the media is meant."""
    pages = FeedRecord(store, SITE_KIND, key)
    if not os.path.lexists(root / SETTINGS_NAME) and (site := find_site(root, pages)) is not None:
        return site
    return FolderSource(root, key, f"hyper://{key}/", FeedRecord(store, FOLDER_KIND, key))
