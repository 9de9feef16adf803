"""Feeds of hyper-rss (cowlicks/hyper-rss): four logs, of which the first names the other three.

| Log | Holds |
| --- | --- |
| keys | block 0, JSON: ``{"keys":{"feed":K,"blobKeys":K,"blobs":K}}``, K in unpadded base64url |
| feed | a bee of three subs: ``order`` (number -> guid), ``key`` (guid -> item), ``metadata`` |
| blobKeys | a bee without subs: file name -> blob id |
| blobs | blobs |

All is the writer's word: what does not parse is a DriveError, and listings go past malformed items.
Source: hyper-rss peer/src/writer.js, feed.js, blobs.js; spec/06-drive, "Feeds of hyper-rss".
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, Self

import msgspec

from p2prss.crypto.keys import KEY_SIZE, CoreKey
from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId, Blobs
from p2prss.drive.btree import BeeEntry
from p2prss.drive.core import Core
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import KeyRange, Sub
from p2prss.units import KIB, MAX_SAFE_INTEGER

MAX_KEYS_BYTES: Final = 4 * KIB  # of the block that names the logs; theirs has 174
MAX_FILE_NAME: Final = 1 * KIB  # bytes of a file's name; theirs end in what followed a URL's last dot
MAX_NUMBERS: Final = 100_000  # entries of ``order`` that are read, the last ones
MAX_DIGITS: Final = 9  # of such a number; theirs have 6
HASH_SIZE: Final = 32  # bytes: SHA-256 of the file

_ORDER: Final = Sub.named(b"order")
_ITEMS: Final = Sub.named(b"key")
_METADATA: Final = Sub.named(b"metadata")

_Uint = Annotated[int, msgspec.Meta(ge=0, le=MAX_SAFE_INTEGER)]


class _Blob(msgspec.Struct, rename="camel"):
    block_offset: _Uint
    byte_offset: _Uint
    block_length: _Uint
    byte_length: _Uint
    block_map: bool = False


class _Keys(msgspec.Struct, rename="camel"):
    feed: str
    blob_keys: str
    blobs: str


class _KeysBlock(msgspec.Struct):
    keys: _Keys


@dataclass(frozen=True, slots=True)
class LegacyKeys:
    """The three logs that the keys log names."""

    feed: CoreKey
    blob_keys: CoreKey
    blobs: CoreKey

    @staticmethod
    def is_likely(block: bytes) -> bool:
        """Whether a log's block 0 is JSON, as no drive's is."""
        return block[:1] == b"{"

    @classmethod
    def decode(cls, block: bytes, key: CoreKey) -> Self:
        """Read block 0 of the log with this key.

        Raises: DriveError when it names no logs, or one twice.
        """
        if len(block) > MAX_KEYS_BYTES:
            raise DriveError(f"this is no feed: its first block is JSON of {len(block)} bytes")
        try:
            named = msgspec.json.decode(block, type=_KeysBlock).keys
            keys = [parse_base64url_key(text) for text in (named.feed, named.blob_keys, named.blobs)]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DriveError(f"this is no feed: its first block names no logs ({error})") from None
        if len({key, *keys}) != 4:
            raise DriveError("this is no feed: its first block names one log twice")
        return cls(*keys)


def parse_base64url_key(text: str) -> CoreKey:
    """A key as hyper-rss writes it: 43 characters of base64url, no padding.

    Raises: ValueError.
    """
    key = decode_base64url(text)
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key of {len(key)} bytes")
    return CoreKey(key)


def decode_base64url(text: str) -> bytes:
    """Bytes of unpadded base64url, in their only spelling. Raises: ValueError."""
    data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("not base64url")
    return data


def encode_base64url(data: bytes) -> str:
    """The same without padding, back."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def file_hash(name: str) -> bytes | None:
    """The SHA-256 that a file's name begins with, ``<base64url>.<rest>``; None for any other name."""
    with suppress(ValueError):
        if len(digest := decode_base64url(name.partition(".")[0])) == HASH_SIZE:
            return digest
    return None


class LegacyItem(NamedTuple):
    """One item; ``value`` is JSON as Python values, whatever the writer liked to say.

    ``number`` counts the items in the order they were added, as far as the writer says so.
    """

    guid: str
    value: dict[str, Any]
    number: int = 0


class LegacyFile(NamedTuple):
    """One file. ``digest`` is the SHA-256 its name promises, as items refer to it."""

    name: str
    digest: bytes
    blob: BlobId


class LegacyFeed:
    """Reads one feed. Every method may wait for peers, and raises their errors.

    Raises: DriveError from each of them when a bee is malformed; one bad item or file is left out.
    """

    def __init__(self, feed: Core, blob_keys: Core, blobs: Core) -> None:
        self.blobs = Blobs(blobs)
        self._feed = Bee(feed)
        self._names = Bee(blob_keys)

    @property
    def version(self) -> int:
        """Grows with each item, file and text that is added; 1 while there is nothing."""
        return self._feed.version + self._names.version - 1

    async def metadata(self, name: str) -> str:
        """One text about the feed: title, description, pubDate or lastBuildDate; empty when there is none."""
        entry = await self._feed.get(_METADATA.key(name.encode()))
        value = None
        with suppress(_MalformedError):
            value = _json(entry.value) if entry is not None and entry.value else None
        return value if isinstance(value, str) else ""

    async def items(self) -> AsyncGenerator[LegacyItem | None, None]:
        """The items, those added last first, at most ``MAX_NUMBERS``; close it when leaving early.

        None stands for one that is malformed, or not there: its writer puts an item after its number.
        """
        async for entry in self._feed.range(_ORDER.inner_range(), reverse=True, limit=MAX_NUMBERS):
            try:
                item = await self.item((entry.value or b"").decode())
            except (ValueError, _MalformedError):
                item = None
            yield item if item is None else item._replace(number=_number(_ORDER.strip(entry.key)))

    async def item(self, guid: str) -> LegacyItem | None:
        """The item of this guid, or None.

        Raises: DriveError also when just this item is malformed.
        """
        entry = await self._feed.get(_ITEMS.key(guid.encode()))
        if entry is None or not entry.value:
            return None
        value = _json(entry.value)
        if not isinstance(value, dict):
            raise _MalformedError("an item is no JSON object")
        return LegacyItem(guid, value)

    async def file(self, name: str) -> LegacyFile | None:
        """The file of this name; None when there is none, or the name promises no hash."""
        if file_hash(name) is None or len(name.encode()) > MAX_FILE_NAME:
            return None
        entry = await self._names.get(name.encode())
        return None if entry is None else _file(entry)

    async def file_of(self, digest: bytes) -> LegacyFile | None:
        """The first file whose name promises this SHA-256, or None."""
        stem = encode_base64url(digest).encode()
        same = KeyRange(gte=stem + b".", lt=stem + b"/")  # "/" is the byte after "."
        return next(iter([_file(entry) async for entry in self._names.range(same, limit=1)]), None)

    async def files(self) -> AsyncGenerator[LegacyFile, None]:
        """All files whose names promise a hash; malformed ones are left out. Close it when leaving early."""
        async for entry in self._names.range():
            if (found := _file(entry)) is not None:
                yield found


class _MalformedError(DriveError):
    """One value does not parse; the bee around it is sound."""


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else 0


def _json(text: bytes) -> Any:
    """Lenient, since JavaScript writes halves of characters as escapes, which strict readers refuse."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _MalformedError(f"a value is no JSON: {error}") from None


def _file(entry: BeeEntry) -> LegacyFile | None:
    """The file of an entry; None when the name promises no hash, or the id cannot be."""
    try:
        name = entry.key.decode()
        found = msgspec.json.decode(entry.value or b"", type=_Blob)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    blob = BlobId(found.block_offset, found.byte_offset, found.block_length, found.byte_length)
    digest = file_hash(name)
    if digest is None or found.block_map or not blob.is_plausible:
        return None
    return LegacyFile(name, digest, blob)
