"""Downloads of other programs are taken over where the origin proves that they are the same."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from p2prss.feed.archive.records import Asset
from p2prss.feed.model import Role
from p2prss.feed.sources.adopt import AdoptShelf
from p2prss.feed.sources.gpodder import read_downloads
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

SPEC = Spec(episodes=4, megabytes=0.3, cover_side=32)

Name = Callable[[dict[str, Any]], str]

TOOLS: dict[str, Name] = {
    "gpodder": lambda one: f"My Show/{Path(one['path']).name}",
    "podgrab": lambda one: f"My-Show/{'-'.join(one['title'].split())}.mp3",
    "podfetch": lambda one: f"podcasts/My Show/{one['title'].replace('/', '_')}/podcast.mp3",
    "podcast-dl": lambda one: f"20240101-{one['title'].replace('/', '_')}.mp3",
    "podcast-archiver": lambda one: f"My Show/2024-01-01 {one['title'].replace('/', '_')}.mp3",
}


@pytest.fixture
def show(tmp_path: Path) -> Path:
    make_podcast(tmp_path / "show", SPEC)
    return tmp_path / "show"


def episodes(show: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((show / "manifest.json").read_text())["episodes"]
    return found


def download(show: Path, folder: Path, name: Name) -> list[Path]:
    """Put the episodes of a show into a folder as a program names them."""
    paths = []
    for one in episodes(show):
        path = folder / name(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(show / one["path"], path)
        paths.append(path)
    return paths


def fetched_whole(origin: Origin) -> list[str]:
    """The episodes that went out in one piece."""
    return [hit.path for hit in origin.hits if hit.path.endswith(".mp3") and hit.sent > 2 * 64 * 1024]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def show_of(origin: Origin) -> Path:
    return Path(origin.root)


async def look(studio: Studio, origin: Origin, folder: Path) -> AdoptShelf:
    shelf = AdoptShelf(folder)
    report = await studio.update(origin.feed_url, shelf=shelf)
    assert report.failures == []
    stored = {asset.sha256 for item in await studio.archive.items() for asset in item.assets}
    assert {one["sha256"] for one in episodes(show_of(origin))} <= stored
    return shelf


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("lengths", ["right", "wrong", "zero"])
async def test_the_downloads_of_each_tool_are_taken_over(
    tmp_path: Path, studio: Studio, tool: str, lengths: str
) -> None:
    make_podcast(tmp_path / "show", Spec(episodes=4, megabytes=0.3, cover_side=32, lengths=lengths))
    paths = download(tmp_path / "show", tmp_path / "downloads", TOOLS[tool])
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}
    with Origin(tmp_path / "show") as origin:
        shelf = await look(studio, origin, tmp_path / "downloads")
        assert fetched_whole(origin) == []
    assert (shelf.files, shelf.bytes) == (4, sum(path.stat().st_size for path in paths))
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths} == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-100],
        lambda data: data + b"ID3 tags written by the program",
    ],
)
async def test_without_proof_nothing_is_taken_over(
    show: Path, studio: Studio, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    for path in download(show, tmp_path / "downloads", TOOLS["podcast-dl"]):
        path.write_bytes(spoil(path.read_bytes()))
    with Origin(show) as origin:
        shelf = await look(studio, origin, tmp_path / "downloads")
        assert len(fetched_whole(origin)) == 4
    assert shelf.files == 0


async def test_an_origin_without_ranges_proves_nothing_but_for_gpodder(
    show: Path, studio: Studio, tmp_path: Path
) -> None:
    folder = tmp_path / "gpodder" / "Downloads"
    download(show, folder, TOOLS["gpodder"])
    with Origin(show, rules=["*.mp3 no-range"]) as origin:
        assert (await look(studio, origin, folder)).files == 0
    with Origin(show, rules=["*.mp3 no-range"]) as origin:
        database = sqlite3.connect(tmp_path / "gpodder" / "Database")
        with database:
            database.execute("CREATE TABLE podcast (id, download_folder)")
            database.execute("CREATE TABLE episode (podcast_id, url, state, download_filename)")
            database.execute("INSERT INTO podcast VALUES (1, 'My Show')")
            for place, one in enumerate(episodes(show)):
                name = Path(one["path"]).name
                row = (1, f"{origin.url}/{one['path']}", 1 if place else 2, name)
                database.execute("INSERT INTO episode VALUES (?, ?, ?, ?)", row)
        database.close()
        before = names(tmp_path / "gpodder")
        assert (await look(Studio(tmp_path / "scratch-2"), origin, folder)).files == 3
        assert names(tmp_path / "gpodder") == before


class Asked:
    """A fetcher that notes whether it was asked, and proves nothing."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def read_part(self, url: str, start: int, stop: int) -> None:
        del start, stop
        self.urls.append(url)


@pytest.mark.parametrize(
    ("title", "name", "is_hint"),
    [
        ("Über Größe, Ähren & Öl", "ueber-groesse-aehren-oel", True),  # Podgrab, podcast-archiver
        ("Über Größe, Ähren & Öl", "Uber Grosse Ahren Ol", True),
        ("Ångström på Møn", "Aangstroem-paa-Moen", True),
        ("Café: naïve déjà vu?", "Cafe_ naive deja vu_", True),
        ("Łódź i Þór", "Lodz i Thor", True),
        ("Новости дня", "Novosti dnia", True),  # of other letters nothing is known
        ("Something else", "Uber Grosse Ahren Ol", False),
    ],
)
async def test_titles_are_known_again_in_the_letters_of_file_names(
    tmp_path: Path, title: str, name: str, is_hint: bool
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / f"2024-01-01 {name}.mp3").write_bytes(b"x" * 100)
    fetcher: Any = Asked()
    asset = Asset(role=Role.ENCLOSURE, url="https://cdn.example/listen?id=1")
    assert await AdoptShelf(tmp_path / "a").take(asset, title, fetcher, tmp_path / "into") is None
    assert bool(fetcher.urls) is is_hint


def test_a_database_that_is_none_says_nothing(tmp_path: Path) -> None:
    assert read_downloads(tmp_path) == {}
    (tmp_path / "Database").write_bytes(b"not SQLite")
    assert read_downloads(tmp_path) == {}
    (tmp_path / "Database").unlink()
    with sqlite3.connect(tmp_path / "Database") as database:
        database.execute("CREATE TABLE podcast (id)")
    database.close()
    assert read_downloads(tmp_path) == {}


async def test_unrelated_files_cost_the_origin_nothing(show: Path, studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for number in range(5):
        (tmp_path / "music" / f"song {number}.mp3").write_bytes(os.urandom(1000 + number))
    with Origin(show) as origin:
        assert (await look(studio, origin, tmp_path / "music")).files == 0
        assert sum(hit.path.endswith(".mp3") for hit in origin.hits) == 4


async def test_links_and_unfinished_downloads_are_not_taken(
    show: Path, studio: Studio, tmp_path: Path
) -> None:
    paths = download(show, tmp_path / "elsewhere", TOOLS["podcast-dl"])
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / paths[0].name).symlink_to(paths[0])
    shutil.copyfile(paths[1], folder / f"{paths[1].name}.part")
    shutil.copyfile(paths[2], folder / f".{paths[2].name}")
    with Origin(show) as origin:
        assert (await look(studio, origin, folder)).files == 0


async def test_what_is_taken_over_has_the_hash_of_the_origin(
    show: Path, studio: Studio, tmp_path: Path
) -> None:
    (path, *_) = download(show, tmp_path / "downloads", TOOLS["podgrab"])
    with Origin(show) as origin:
        await look(studio, origin, tmp_path / "downloads")
    items = await studio.archive.items()
    assert sha256(path.read_bytes()).hexdigest() in {asset.sha256 for item in items for asset in item.assets}
