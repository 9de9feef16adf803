"""What gPodder knows of the files it downloaded: its database says which file came from which address."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

DATABASE: Final = "Database"
DOWNLOADS: Final = "Downloads"
MAX_DOWNLOADS: Final = 200_000  # rows read

_QUERY: Final = """
    SELECT episode.url, podcast.download_folder, episode.download_filename
    FROM episode JOIN podcast ON podcast.id = episode.podcast_id
    WHERE episode.state = 1 AND episode.download_filename IS NOT NULL
    LIMIT ?
"""
"""State 1 is a complete download. Source: gPodder schema.py, and ``STATE_DOWNLOADED`` of its __init__."""


def read_downloads(folder: Path) -> dict[str, str]:
    """Complete downloads by address, as paths relative to ``folder``: gPodder's home or its ``Downloads``.

    Empty where there is no such database, or none that can be read. It is opened so that nothing is
    written, not even beside it.
    """
    for home, prefix in ((folder, f"{DOWNLOADS}/"), (folder.parent, "")):
        if (home / DATABASE).is_file():
            try:
                return _read(home / DATABASE, prefix)
            except (sqlite3.Error, ValueError):
                return {}
    return {}


def _read(path: Path, prefix: str) -> dict[str, str]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        rows = database.execute(_QUERY, (MAX_DOWNLOADS,)).fetchall()
    return {
        url: f"{prefix}{folder}/{name}"
        for url, folder, name in rows
        if isinstance(url, str) and isinstance(folder, str) and isinstance(name, str)
    }
