"""A folder of media becomes a podcast, and stays the same one."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import mutagen
import pytest
from lxml import etree

from p2prss.errors import FeedError, FeedFormatError, FetchError
from p2prss.feed.document.names import CONTENT
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.model import Role
from p2prss.feed.sources.drawn_cover import draw_cover
from p2prss.feed.sources.folder import (
    address_of,
    copy_file,
    is_unchanged,
    list_files,
    opened,
    path_of_address,
)
from p2prss.feed.sources.folder_source import FolderSource
from p2prss.feed.sources.show import natural, parse_tag_date
from p2prss.feed.sources.show_settings import parse_settings
from tests.fakes.studio import MemoryState, Studio
from tests.feed.sources.album import MODIFIED, add, album, picture, tag


def source(folder: Path, state: MemoryState | None = None) -> FolderSource:
    return FolderSource(folder, "key", "hyper://key/", state or MemoryState())


async def look(studio: Studio, made: FolderSource) -> list[str]:
    """Mirror once; every file must come. Returns: the titles that are not removed, newest first."""
    report = await studio.update("unused", made=made)
    assert report.failures == []
    return [item.title for item in await studio.archive.items() if item.removed_at is None]


async def guids(studio: Studio) -> dict[str, str]:
    return {item.title: item.guid for item in await studio.archive.items() if item.removed_at is None}


async def test_tags_become_a_feed_and_the_files_are_in_the_drive(tmp_path: Path, studio: Studio) -> None:
    folder = album(tmp_path / "folder")
    cover = picture(tmp_path)
    tag(folder / "one.mp3", cover=cover, date="2023-02-01")
    (folder / "two.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nHi\n")
    (folder / "two.chapters.json").write_text('{"version": "1.2.0", "chapters": []}')
    made = source(folder)
    assert await look(studio, made) == ["Part 4", "Part 3", "Part 2", "Part 1"]
    feed = parse_feed(made.make_feed())
    assert (feed.channel.title, feed.channel.language) == ("The Album", "en")
    first, *_, last = feed.items
    assert first.published == datetime.fromtimestamp(MODIFIED + 4 * 3600, UTC)
    assert last.published == datetime(2023, 2, 1, tzinfo=UTC)
    for part in (b"<description>Notes.</description>", b"<itunes:duration>1<", b"<itunes:episode>4<"):
        assert part in first.xml, part
    roles = {item.title: [asset.role for asset in item.assets] for item in await studio.archive.items()}
    assert roles["Part 2"] == [Role.ENCLOSURE, Role.TRANSCRIPT, Role.CHAPTERS]
    info = await studio.archive.info()
    assert (
        info.channel_assets[0].sha256 == sha256(cover).hexdigest()
    )  # one embeds a picture: it is the show's
    stored = {asset.sha256 for item in await studio.archive.items() for asset in item.assets}
    for path in folder.iterdir():
        assert sha256(path.read_bytes()).hexdigest() in stored, path
    version = studio.drive.version
    assert not (await studio.update("unused", made=source(folder, made.state))).wrote
    assert studio.drive.version == version


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = album(tmp_path / "folder")
    first = source(folder).make_feed()
    assert b"lastBuildDate>Wed, 15 Nov 2023 02:13:20 +0000<" in first
    shutil.copytree(folder, tmp_path / "other" / "folder")  # keeps times
    assert source(tmp_path / "other" / "folder").make_feed() == first
    state = MemoryState()
    assert source(folder, state).make_feed() == first


async def test_changes_are_picked_up_and_guids_stay(tmp_path: Path, studio: Studio) -> None:
    folder, state = album(tmp_path / "folder"), MemoryState()
    await look(studio, source(folder, state))
    before = await guids(studio)
    tag(folder / "one.mp3", title="Part 1, corrected")  # re-tagged: other bytes, same episode
    (folder / "two.m4a").rename(folder / "second.m4a")  # renamed: same bytes, same episode
    (folder / "three.ogg").unlink()
    add(folder, "five.opus", 9)
    assert await look(studio, source(folder, state)) == ["five", "Part 4", "Part 2", "Part 1, corrected"]
    after = await guids(studio)
    assert after["Part 1, corrected"] == before["Part 1"]
    assert after["Part 2"] == before["Part 2"]
    items = await studio.archive.items()
    assert [item.title for item in items if item.removed_at] == ["Part 3"]
    corrected = next(item for item in items if item.title == "Part 1, corrected")
    assert corrected.assets[0].sha256 == sha256((folder / "one.mp3").read_bytes()).hexdigest()
    os.utime(folder / "second.m4a")  # touched and nothing else: not even its date changes
    version = studio.drive.version
    await look(studio, source(folder, state))
    assert studio.drive.version == version
    folder.rename(tmp_path / "moved")  # the folder's own name says nothing when tags name the show
    await look(studio, source(tmp_path / "moved", state))
    assert studio.drive.version == version
    # a file under the old name of a renamed one is another episode
    add(tmp_path / "moved", "two.m4a", 20)
    await look(studio, source(tmp_path / "moved", state))
    assert len(set((await guids(studio)).values())) == 5


async def test_names_with_every_character_arrive(tmp_path: Path, studio: Studio) -> None:
    folder = tmp_path / "folder"
    names = [
        "a b.mp3",
        "ü ☃.mp3",
        "50%?.mp3",
        "#1.mp3",
        "new\nline.mp3",
        "12: x.mp3",
        "a&b<c>'\".mp3",
        "%41.mp3",
    ]
    for hours, name in enumerate(names):
        tag(add(folder, name, hours), comment=name)  # no two files alike
    odd = add(folder, "plain.mp3", 20)
    tag(odd, comment="latin")
    odd.rename(folder / "caf\udce9.mp3")  # bytes that are no UTF-8
    deep = add(folder, "disc 1/über/x.mp3", 30)
    tag(deep, comment="deep")
    assert len(await look(studio, source(folder))) == len(names) + 2
    stored = {asset.sha256 for item in await studio.archive.items() for asset in item.assets}
    assert {sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.mp3")} <= stored


@pytest.mark.parametrize("path", ["a b/c.mp3", "x#?%.mp3", "a:b", "new\nline", "\udce9.mp3", "-", "ü"])
def test_an_address_leads_back_to_its_file(path: str) -> None:
    assert path_of_address(address_of(path) + "?v=1") == path
    assert address_of(path).isascii()


async def test_nothing_outside_is_followed_and_unfinished_files_wait(tmp_path: Path, studio: Studio) -> None:
    folder = album(tmp_path / "folder")
    secret = add(tmp_path / "elsewhere", "secret.mp3")
    tag(secret, title="Secret")
    (folder / "link.mp3").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    for name in (".hidden.mp3", "later.mp3.part", ".dot/x.mp3", "x.mp3.crdownload", "old.mp3~"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(secret, folder / name)
    (folder / "empty.mp3").touch()
    os.mkfifo(folder / "pipe.mp3")
    assert await look(studio, source(folder)) == ["Part 4", "Part 3", "Part 2", "Part 1"]
    for path in ("link.mp3", "linked/secret.mp3", "../elsewhere/secret.mp3", ".hidden.mp3", "pipe.mp3", ""):
        with pytest.raises(FetchError), opened(folder, path):
            pass
    with pytest.raises(FetchError, match="larger than the limit"):
        copy_file(folder, "one.mp3", tmp_path / "copy", 10)


HOSTILE: list[Callable[[bytes], bytes]] = [
    lambda data: data[: len(data) // 2],
    lambda data: data[:40] + b"\xff" * 200 + data[240:],
    lambda data: b"ID3\x04\x00\xff\x7f\x7f\x7f\x7f" + data,
    lambda data: b"ID3\x04\x00\x00\x00\x00\x0f\x7f" + b"APIC\x7f\x7f\x7f\x7f\x00\x00" * 90 + data,
    lambda data: b"OggS" + data,
    lambda data: b"fLaC" + b"\x84\xff\xff\xff" + data,
    lambda data: b"\x00\x00\x00\x08ftyp" * 50 + data,
    lambda data: b"\x00" * 64,
]


@pytest.mark.parametrize("damage", HOSTILE)
def test_tags_that_make_no_sense_end_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = tmp_path / "folder"
    for name in ("a.mp3", "b.m4a", "c.ogg", "d.flac", "e.opus", "f.wav"):
        path = add(folder, name)
        path.write_bytes(damage(path.read_bytes()))
    feed = parse_feed(source(folder).make_feed())
    assert len(feed.items) == 6
    assert len({item.published for item in feed.items}) == 6


def test_whatever_mutagen_raises_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RecursionError("deep")

    folder = album(tmp_path / "folder")
    monkeypatch.setattr(mutagen, "File", fail)
    feed = parse_feed(source(folder).make_feed())
    assert sorted(item.title for item in feed.items) == ["four", "one", "three", "two"]


def test_control_characters_in_tags_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    tag(add(folder, "a.mp3"), title="bell \x07 and \x1b[31m red", comment="a\x00b\x0cc", date="soon")
    (item,) = parse_feed(source(folder).make_feed()).items
    assert item.title == "bell and [31m red"


def test_settings_say_the_rest(tmp_path: Path) -> None:
    folder = album(tmp_path / "folder")
    (folder / "art.png").write_bytes(picture(tmp_path, 2))
    (folder / "show.toml").write_text(
        """
title = "Ann reads"
description = "All of it."
link = "https://ann.example/"
language = "de-AT"
author = "Ann Example"
email = "ann@ann.example"
category = ["Arts > Books", "Education"]
explicit = true
image = "art.png"
guid = "917393e3-1b1e-5cef-ace4-edaa54e1f810"
type = "serial"

[episodes."one.mp3"]
title = "The beginning"
description = "How it began."
date = 2020-05-01T06:00:00+02:00
season = 2
number = 7
guid = "my-own"

[episodes."four.flac"]
skip = true
"""
    )
    data = source(folder).make_feed()
    feed = parse_feed(data)
    assert feed.channel.title == "Ann reads"
    assert feed.channel.podcast_guid == "917393e3-1b1e-5cef-ace4-edaa54e1f810"
    for part in (
        b'<itunes:category text="Arts">\n      <itunes:category text="Books"/>',
        b'<itunes:category text="Education"/>',
        b"<itunes:explicit>true<",
        b"<itunes:email>ann@ann.example<",
        b"<itunes:type>serial<",
        b'<itunes:image href="art.png?v=',
        b"<link>https://ann.example/<",
    ):
        assert part in data, part
    assert [item.title for item in feed.items] == ["Part 3", "Part 2", "The beginning"]
    last = feed.items[-1]
    assert (last.guid, last.published) == ("my-own", datetime(2020, 5, 1, 4, tzinfo=UTC))
    assert b"<itunes:season>2<" in last.xml
    assert b"<itunes:episode>7<" in last.xml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 3", "show.toml: title: a text is expected, not a whole number (line 1)"),
        ("# x\n\ntitel = 'x'", "show.toml: unknown key `titel` (line 3)"),
        ("guid = 'x'", "show.toml: guid: a UUID is expected (line 1)"),
        ("link = 'javascript:x'", "show.toml: link: an http or https address is expected (line 1)"),
        ("episodes = 3", "show.toml: episodes: a table for each file name is expected (line 1)"),
        (
            'description = """\nnumber = 1\n[x]\n"""\n[episodes."a.mp3"]\nnumber = "x"',
            'show.toml: episodes."a.mp3".number: a whole number is expected, not a text (line 6)',
        ),
        ("[episodes.'a.mp3']\nnumbr = 1", 'show.toml: episodes."a.mp3": unknown key `numbr` (line 2)'),
        ("[episodes]\n\n'a.mp3' = 3", 'show.toml: episodes."a.mp3": a table is expected, not a whole'),
        (
            "category = [\n 'Arts',\n 3]",
            "show.toml: category: a text is expected, not a whole number (line 1)",
        ),
        ("title = '" + "x" * 256 + "'", "show.toml: title: Expected `str` of length <= 255 (line 1)"),
        ("title = ", "show.toml cannot be read: Invalid value"),
        ("\xff", "show.toml cannot be read"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(text: str, message: str) -> None:
    with pytest.raises(FeedFormatError) as raised:
        parse_settings(text.encode("latin-1"))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["image = 'gone.png'", "[episodes.'one.mp3']\nguid='x'\n[episodes.'two.m4a']\nguid='x'"]
)
def test_settings_that_do_not_fit_the_folder_are_refused(tmp_path: Path, text: str) -> None:
    folder = album(tmp_path / "folder")
    (folder / "show.toml").write_text(text)
    with pytest.raises(FeedFormatError, match=r"^show\.toml: .* \(line \d\)$"):
        source(folder).make_feed()


def test_a_doubt_is_told_once(tmp_path: Path) -> None:
    folder = album(tmp_path / "folder")
    (folder / "show.toml").write_text(
        "category = ['Arts > Books', 'Artz']\n[episodes.'gone.mp3']\nskip = true"
    )
    (folder / "page.mp3").write_text("<!doctype html><html>404</html>")
    made = source(folder)
    items = parse_feed(made.make_feed()).items
    assert len(items) == 4
    assert made.notices == (
        "left out: 'page.mp3' is text/html, neither audio nor video",
        'show.toml: episodes."gone.mp3": the folder has no such file',
        "show.toml: category: directories know none called 'Artz'",
    )
    made.make_feed()
    assert made.notices == ()


def test_several_artists_and_long_texts(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    tag(add(folder, "a.mp3"), comment="words " * 1000, title="  " + "x" * 400 + " ")
    file: Any = mutagen.File(add(folder, "b.ogg"))
    file["artist"] = ["Ann", "Bob", "Ann"]
    file.save()
    data = source(folder).make_feed()
    assert b"<itunes:author>Ann, Bob<" in data
    (long,) = [item for item in etree.fromstring(data).iter("item") if item.findtext("title") == "x" * 255]
    brief, whole = long.findtext("description") or "", long.findtext(f"{{{CONTENT}}}encoded") or ""
    assert len(brief.encode()) <= 4000
    assert brief.endswith("words …")
    assert whole == ("words " * 1000).strip()


async def test_a_file_that_is_being_written_waits_for_the_next_look(tmp_path: Path) -> None:
    folder = album(tmp_path / "folder")
    found = next(file for file in list_files(folder) if file.path == "one.mp3")
    assert is_unchanged(folder, found)
    with (folder / "one.mp3").open("ab") as file:
        file.write(b"more")
    assert not is_unchanged(folder, found)


def test_names_of_an_old_disk_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    add(folder, "x.mp3").rename(os.fsdecode(os.fsencode(folder) + b"/f\xfcnf.mp3"))
    assert [item.title for item in parse_feed(source(folder).make_feed()).items] == ["fünf"]


def test_a_folder_without_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(FeedFormatError, match="no audio or video files"):
        source(tmp_path).make_feed()
    with pytest.raises(FeedError, match="cannot be read"):
        list_files(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2024", "2024-01-01T00:00:00"),
        ("2024-05", "2024-05-01T00:00:00"),
        ("2024-05-06", "2024-05-06T00:00:00"),
        ("2024-05-06 07:08", "2024-05-06T07:08:00"),
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09"),
        ("2024-05-06T07:08:09+02:00", "2024-05-06T05:08:09"),
        ("20240506", "2024-05-06T00:00:00"),
        ("2024-5-6", "2024-05-06T00:00:00"),
        ("2024/05/06", "2024-05-06T00:00:00"),
        ("06.05.2024", "2024-05-06T00:00:00"),
        ("6 May 2024", "2024-05-06T00:00:00"),
        ("May 6, 2024", "2024-05-06T00:00:00"),
        ("Mon, 06 May 2024 07:08:09 +0200", "2024-05-06T05:08:09"),
        ("2024-13-06", None),
        ("20241306", None),
        ("05/06/2024", None),  # of May or of June
        ("0000", None),
        ("May 2024", None),
        ("", None),
    ],
)
def test_dates_of_tags(text: str, when: str | None) -> None:
    found = parse_tag_date(text)
    assert (found and found[0].isoformat()) == (when and f"{when}+00:00")


def test_episodes_of_one_day_are_in_the_order_of_their_tracks(tmp_path: Path) -> None:
    folder = tmp_path / "book"
    for number in (10, 2, 1):
        tag(add(folder, f"chapter {number}.mp3"), title=str(number), track=str(number), date="2019")
    assert [item.title for item in parse_feed(source(folder).make_feed()).items] == ["10", "2", "1"]
    assert sorted(["a10", "a2", "a1"], key=natural) == ["a1", "a2", "a10"]


def test_a_show_without_a_picture_gets_one() -> None:
    drawn = draw_cover("A title")
    assert drawn == draw_cover("A title") != draw_cover("Another")
    assert drawn[16:24] == (1400).to_bytes(4, "big") * 2
    assert len(drawn) < 100_000
