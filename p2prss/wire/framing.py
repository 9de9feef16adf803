"""Frames in a byte stream: ``u24 little-endian length | body``.

Bytes come in chunks of any size; frames come out whole. A frame that lies within one chunk is handed out
as a view of it, uncopied; only one that crosses the end of a chunk is assembled, in a buffer that grows as
its bytes arrive: the announced length alone never allocates anything.
Source: @hyperswarm/secret-stream 6.9.2; spec/04-connection, "Frames".
"""

from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.errors import RemoteProtocolError

LENGTH_SIZE: Final = 3  # bytes
MAX_FRAME_BYTES: Final = 2**24 - 1  # what a u24 can announce


class FrameReader:
    """Cuts a byte stream into frames; holds at most one unfinished frame.

    Use: ``feed`` one chunk, then ``next_frame`` until it gives ``None``; only then may the chunk be reused.
    """

    __slots__ = ("_chunk", "_held", "_position")

    def __init__(self) -> None:
        self._held = bytearray()  # the start of an unfinished frame, length included
        self._chunk = memoryview(b"")
        self._position = 0

    @property
    def held_bytes(self) -> int:
        """Of the unfinished frame."""
        return len(self._held)

    def feed(self, chunk: Buffer) -> None:
        """Take the next bytes of the stream; the chunk before must be used up."""
        self._chunk = memoryview(chunk)
        self._position = 0

    def next_frame(self, smallest: int, largest: int) -> memoryview | None:
        """The body of the next whole frame, or ``None``: more bytes are needed.

        The view is good until the chunk is reused.
        Raises: RemoteProtocolError as soon as a length outside ``smallest..largest`` is announced.
        """
        if self._held:
            return self._assemble(smallest, largest)
        chunk, start = self._chunk, self._position
        body = start + LENGTH_SIZE
        if body <= len(chunk):
            size = chunk[start] | chunk[start + 1] << 8 | chunk[start + 2] << 16
            if not smallest <= size <= largest:
                raise _bad_length(size)
            end = body + size
            if end <= len(chunk):
                self._position = end
                return chunk[body:end]
        self._hold(len(chunk))
        return None

    def _assemble(self, smallest: int, largest: int) -> memoryview | None:
        self._hold(LENGTH_SIZE)
        if len(self._held) < LENGTH_SIZE:
            return None
        size = int.from_bytes(self._held[:LENGTH_SIZE], "little")
        if not smallest <= size <= largest:
            raise _bad_length(size)
        self._hold(LENGTH_SIZE + size)
        if len(self._held) < LENGTH_SIZE + size:
            return None
        frame, self._held = memoryview(self._held)[LENGTH_SIZE:], bytearray()
        return frame

    def _hold(self, wanted: int) -> None:
        """Move bytes from the chunk until ``wanted`` are held, or the chunk is used up and let go."""
        missing = wanted - len(self._held)
        if missing > 0:
            part = self._chunk[self._position : self._position + missing]
            self._held += part
            self._position += len(part)
        if self._position == len(self._chunk):
            self._chunk, self._position = memoryview(b""), 0


def _bad_length(size: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"a frame of {size} bytes has no place here", reason="bad-frame")
