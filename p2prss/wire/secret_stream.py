"""The encrypted frames of a connection: libsodium's secretstream, one state per direction.

After the handshake each side sends one header frame (stream id 32 bytes | secretstream header 24 bytes) and
from then on only data frames: ``u24 n+17 | encrypted tag 1 | ciphertext n | MAC 16``. Frames must be opened
in the order they were sealed. Not goals: padding, and datagrams beside the stream (Hypercore uses none).

libsodium is called directly, as pynacl's wrappers copy what they are given. Sending seals in place: the
plaintext is written once, into the frame. Receiving opens into a fresh buffer, of which slices can be
handed on and kept.

Sources: @hyperswarm/secret-stream 6.9.2, sodium-secretstream 1.2.0; spec/04-connection, "Encryption".
"""

from collections.abc import Sequence
from typing import Any, Final

import nacl.bindings  # runs sodium_init: without it libsodium takes its slow portable code
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # compiled, has no stubs

from p2prss.codec.compact import Buffer
from p2prss.crypto.hashes import blake2b
from p2prss.crypto.namespaces import SECRET_STREAM_INITIATOR, SECRET_STREAM_RESPONDER
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.wire.framing import MAX_FRAME_BYTES

STREAM_ID_SIZE: Final = 32  # bytes
STREAM_KEY_SIZE: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES  # 32
STREAM_HEADER_SIZE: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES  # 24
HEADER_FRAME_SIZE: Final = STREAM_ID_SIZE + STREAM_HEADER_SIZE  # bytes, without the length
OVERHEAD: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_ABYTES  # 17: tag and MAC
MAX_PLAINTEXT_BYTES: Final = MAX_FRAME_BYTES - OVERHEAD

_STATE_SIZE: Final = nacl.bindings.crypto_secretstream_xchacha20poly1305_STATEBYTES
_BODY: Final = 3  # offset of the ciphertext in a frame
_PLAINTEXT: Final = 4  # offset of the plaintext: behind the length and the tag
_MAC_ROOM: Final = bytes(16)
_push: Final = lib.crypto_secretstream_xchacha20poly1305_push
_pull: Final = lib.crypto_secretstream_xchacha20poly1305_pull
_from_buffer: Final = ffi.from_buffer
_NULL: Final = ffi.NULL


def stream_id(handshake_hash: bytes, *, initiator: bool) -> bytes:
    """What one side's header frame starts with: it ties the stream to its handshake, 32 bytes."""
    return blake2b(SECRET_STREAM_INITIATOR if initiator else SECRET_STREAM_RESPONDER, key=handshake_hash)


class FrameSealer:
    """Encrypts our frames, in the order they are sent.

    Args: key: 32 bytes from the handshake; header: 24 fresh random bytes, which the other side is sent.
    """

    __slots__ = ("_state",)

    def __init__(self, key: bytes, header: bytes) -> None:
        self._state = _new_state(key, header)

    def seal(self, parts: Sequence[Buffer]) -> bytearray:
        """One data frame, length included; the parts, taken together, are its plaintext.

        Raises: LocalProtocolError above ``MAX_PLAINTEXT_BYTES``.
        """
        size = sum(map(len, parts))
        if size > MAX_PLAINTEXT_BYTES:
            raise LocalProtocolError(f"{size} bytes do not fit in one frame")
        prefix = (size + OVERHEAD).to_bytes(_BODY, "little") + b"\0"
        frame = bytearray().join((prefix, *parts, _MAC_ROOM))
        place = _from_buffer(frame)
        _push(self._state, place + _BODY, _NULL, place + _PLAINTEXT, size, _NULL, 0, 0)
        return frame


class FrameOpener:
    """Decrypts the other side's frames, in the order they come.

    Args: key: 32 bytes from the handshake; header: the 24 bytes the other side sent.
    """

    __slots__ = ("_state",)

    def __init__(self, key: bytes, header: bytes) -> None:
        self._state = _new_state(key, header)

    def open(self, body: Buffer) -> bytearray:
        """The plaintext of one data frame (without its length), in a fresh buffer.

        Raises: RemoteProtocolError when the frame is too short or was tampered with.
        """
        size = len(body) - OVERHEAD
        if size < 0:
            raise RemoteProtocolError("frame too short to be encrypted", reason="bad-frame")
        plaintext = bytearray(size)
        # The tag is not looked at: the reference sends only MESSAGE and reads any.
        into = _from_buffer(plaintext)
        if _pull(self._state, into, _NULL, _NULL, _from_buffer(body), size + OVERHEAD, _NULL, 0) != 0:
            raise RemoteProtocolError("frame does not decrypt", reason="bad-frame")
        return plaintext


def _new_state(key: bytes, header: bytes) -> Any:  # a cffi buffer
    """A secretstream state, for either direction.

    ``init_push`` would draw the header at random and then do what ``init_pull`` does: the state that follows
    from a key and a header is the same.
    """
    if len(key) != STREAM_KEY_SIZE or len(header) != STREAM_HEADER_SIZE:  # libsodium would read beyond
        raise LocalProtocolError("a stream key has 32 bytes and a stream header 24")
    state = ffi.new("unsigned char[]", _STATE_SIZE)
    lib.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)  # cannot fail
    return state
