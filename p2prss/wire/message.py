"""What every message of replication can do: be written and be read."""

from typing import ClassVar, Self

from p2prss.codec.compact import Buffer, Reader, Writer


class Message:
    """One replication message: ``encode_parts`` gives its payload, ``decode`` reads it."""

    __slots__ = ()
    TYPE: ClassVar[int]  # its number on the wire

    def encode(self, out: Writer) -> None:
        """Write the payload."""
        raise NotImplementedError

    @classmethod
    def decode(cls, src: Reader) -> Self:
        """Read the payload. Raises: DecodeError."""
        raise NotImplementedError

    def encode_parts(self) -> list[Buffer]:
        """The payload in pieces, big values uncopied: whoever makes the frame copies each once."""
        out = Writer()
        self.encode(out)
        return [out.finish()]
