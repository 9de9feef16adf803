"""Items of hyper-rss as RSS: nothing a writer says makes anything but an item, or none."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.drive.blobs import BlobId
from p2prss.drive.legacy_rss import LegacyFile, LegacyItem, encode_base64url
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.archive import decode_info, read_item
from p2prss.feed.archive.legacy_rss import file_names, make_info, read_record, render_channel, render_item
from p2prss.feed.archive.records import ItemRecord, item_path
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import ItemSource, render_feed
from p2prss.feed.model import MAX_GUID_LENGTH, Role

DIGESTS = [bytes([number]) * 32 for number in range(3)]


def file(number: int, rest: str) -> LegacyFile:
    name = f"{encode_base64url(DIGESTS[number])}.{rest}"
    return LegacyFile(name, DIGESTS[number], BlobId(0, 0, 1, 100 + number))


AUDIO, PICTURE, MISSING = file(0, "mp3?a=b&c"), file(1, "com/x.png"), file(2, "png")
FILES = {one.name: one for one in (AUDIO, PICTURE)}


def item(**value: Any) -> LegacyItem:
    return LegacyItem("guid", value, 7)


def record_of(one: LegacyItem) -> ItemRecord:
    record = read_record(one, FILES)
    assert record is not None
    return record


def test_files_get_the_paths_and_types_of_the_format() -> None:
    one = item(
        enclosure={"url": AUDIO.name, "type": "audio/mpeg"},
        content=f'<img src="{PICTURE.name}"><img src="{MISSING.name}"><img src="https://x.example/y">',
    )
    assert file_names(one) == [AUDIO.name, PICTURE.name, MISSING.name]
    assets = record_of(one).assets
    assert [(asset.role, asset.path, asset.mime_type, asset.byte_length) for asset in assets] == [
        (Role.ENCLOSURE, f"/media/00/{'00' * 32}.mp3", "audio/mpeg", 100),
        (Role.INLINE, f"/media/01/{'01' * 32}.png", "image/png", 101),
    ]
    xml = render_item(one, record_of(one)).decode()
    assert f'src="assets/{"01" * 32}.png"' in xml.replace("&quot;", '"')
    assert MISSING.name in xml


def test_an_episode_that_was_not_copied_keeps_its_address() -> None:
    one = item(
        enclosure={"url": "https://x.example/1.mp3", "length": "12"}, itunes={"image": "https://i.example/"}
    )
    assets = record_of(one).assets
    assert [(asset.url, asset.path, asset.byte_length) for asset in assets] == [
        ("https://x.example/1.mp3", None, 12),
        ("https://i.example/", None, None),
    ]
    assert b'type="audio/mpeg"' in render_item(one, record_of(one))


@pytest.mark.parametrize("url", [MISSING.name, "javascript:alert(1)", "file:///etc/passwd", "", 7, None, {}])
def test_an_enclosure_that_leads_nowhere_is_left_out(url: object) -> None:
    one = item(title="t", enclosure={"url": url, "length": "x" * 99})
    assert record_of(one).assets == ()
    assert b"enclosure" not in render_item(one, record_of(one))


def test_dates() -> None:
    both = item(isoDate="2024-01-02T03:04:05.678Z", pubDate="Mon, 01 Jan 2024 00:00:00 GMT")
    assert (
        record_of(both).published == record_of(both).first_seen == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    assert record_of(item(pubDate="Mon, 01 Jan 2024 00:00:00 GMT")).published == datetime(
        2024, 1, 1, tzinfo=UTC
    )
    none = record_of(item(pubDate="yesterday"))
    assert (none.published, none.first_seen) == (None, datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC))


@pytest.mark.parametrize("guid", ["", "x" * (MAX_GUID_LENGTH + 1)])
def test_a_guid_that_cannot_be_kept(guid: str) -> None:
    assert read_record(LegacyItem(guid, {}), {}) is None


def test_what_is_too_large_is_refused() -> None:
    one = item(content="<" * 600_000)
    with pytest.raises(FeedFormatError, match="bytes"):
        render_item(one, record_of(one))


_ANY_TEXT = st.text(st.characters() | st.just("\0") | st.just("\ud800"), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("_"), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = [
    "title",
    "link",
    "pubDate",
    "isoDate",
    "content",
    "content:encoded",
    "creator",
    "categories",
    "enclosure",
]
_ITEMS = st.dictionaries(
    st.sampled_from([*_NAMES, "itunes", "guid"]), _JSON, max_size=6
) | st.fixed_dictionaries(
    {
        "enclosure": st.dictionaries(st.sampled_from(["url", "length", "type"]), _JSON | st.just(AUDIO.name)),
        "itunes": st.dictionaries(st.sampled_from(["image", "duration", "author"]), _JSON),
        "title": _JSON,
    }
)


@given(
    _ITEMS,
    st.text(min_size=1, max_size=20),
    st.dictionaries(st.sampled_from(["title", "pubDate"]), _ANY_TEXT),
)
def test_any_item_becomes_feed_format_1(value: dict[str, Any], guid: str, metadata: dict[str, str]) -> None:
    one = LegacyItem(guid, json.loads(json.dumps(value)), 3)
    record = read_record(one, FILES)
    assert record is not None
    path = item_path(guid, record.first_seen)
    archived = read_item(path, msgspec.to_builtins(record))
    assert archived is not None
    assert archived.record == record
    info = decode_info(make_info(metadata, [record]))
    assert info.items == 1
    channel = render_channel(metadata)
    feed = parse_feed(render_feed(channel, [ItemSource(render_item(one, record))]))
    assert len(feed.items) == 1
