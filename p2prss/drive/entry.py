"""What a drive says about one path, and its JSON.

``{"executable":false,"linkname":null,"blob":{"blockOffset":1,"byteOffset":12,"blockLength":1,
"byteLength":6},"metadata":null}``; members may be missing or in another order.
Source: hyperdrive index.js; spec/06-drive, "Entries".
"""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

import msgspec

from p2prss.drive.blobs import BlobId
from p2prss.drive.btree import BeeEntry
from p2prss.drive.errors import DriveError
from p2prss.drive.paths import MAX_PATH_SIZE, stored_path
from p2prss.errors import UsageError
from p2prss.units import MAX_SAFE_INTEGER

MAX_JSON_DEPTH: Final = 64

_Uint = Annotated[int, msgspec.Meta(ge=0, le=MAX_SAFE_INTEGER)]
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # the last may lack its end


@dataclass(frozen=True, slots=True)
class DriveEntry:
    """A file (with ``blob``) or a symbolic link (with ``linkname``); ``seq`` is the db block that put it.

    ``metadata`` is any JSON value, whatever the writer liked to say: check before use.
    """

    seq: int
    path: str
    blob: BlobId | None = None
    linkname: str | None = None
    executable: bool = False
    metadata: Any = None


class _Blob(msgspec.Struct, rename="camel", omit_defaults=True):
    block_offset: _Uint
    byte_offset: _Uint
    block_length: _Uint
    byte_length: _Uint
    block_map: bool | None = None


class _Value(msgspec.Struct):
    executable: bool | None = None
    linkname: Annotated[str, msgspec.Meta(max_length=MAX_PATH_SIZE)] | None = None
    blob: _Blob | None = None
    metadata: Any = None


_DECODER: Final = msgspec.json.Decoder(_Value)


def encode_value(
    blob: BlobId | None, *, linkname: str | None = None, executable: bool = False, metadata: object = None
) -> bytes:
    """The value to be put for a path.

    Raises: UsageError when ``metadata`` cannot be JSON.
    """
    packed = None
    if blob is not None:
        packed = _Blob(
            blob.block_offset, blob.byte_offset, blob.block_length, blob.byte_length, blob.block_map or None
        )
    try:
        return msgspec.json.encode(_Value(executable, linkname, packed, metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"metadata that cannot be JSON: {error}") from error


def decode_entry(entry: BeeEntry, key: bytes) -> DriveEntry:
    """Read an entry; ``key`` is its key without the prefix of the sub-database.

    Raises: DriveError when path or value are not what a drive may hold.
    """
    path = stored_path(key)
    value = _decode_value(entry.value or b"null", path)
    blob = None
    if (packed := value.blob) is not None:
        blob = BlobId(
            packed.block_offset,
            packed.byte_offset,
            packed.block_length,
            packed.byte_length,
            bool(packed.block_map),
        )
        if not blob.is_plausible:
            raise DriveError(f"{path!r} has {blob.byte_length} bytes in {blob.block_length} blocks")
    return DriveEntry(
        seq=entry.seq,
        path=path,
        blob=blob,
        linkname=value.linkname,
        executable=bool(value.executable),
        metadata=value.metadata,
    )


def _decode_value(text: bytes, path: str) -> _Value:
    try:
        # Only a text with many brackets can be deep; only then it is worth a closer look.
        if text.count(b"[") + text.count(b"{") > MAX_JSON_DEPTH:
            _check_depth(text)
        try:
            return _DECODER.decode(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return _DECODER.decode(_without_lone_surrogates(text))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DriveError(f"the entry of {path!r} is malformed: {error}") from error


def _check_depth(text: bytes) -> None:
    depth = 0
    for byte in _STRINGS.sub(b"", text):
        if byte in b"[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")
        elif byte in b"]}":
            depth -= 1


def _without_lone_surrogates(text: bytes) -> bytes:
    """JavaScript may write half of a character, as an escape; it becomes U+FFFD."""
    value = json.loads(text, parse_constant=_refuse)
    text16 = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
    return text16.decode("utf-16", "replace").encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
