"""Two ends of one connection, without a network between them."""

from collections.abc import Callable

from p2prss.crypto.keys import KeyPair
from p2prss.wire.connection import Connection, Event


def seed(number: int) -> bytes:
    """The seeds of the vectors: 32 bytes of one number."""
    return bytes([number]) * 32


class Ends:
    """An initiator and a responder; ``pump`` carries bytes between them until both are quiet."""

    def __init__(self, now: float = 0.0) -> None:
        self.initiator = Connection(
            initiator=True,
            key_pair=KeyPair.from_seed(seed(1)),
            ephemeral_seed=seed(3),
            stream_header=b"\xa1" * 24,
            now=now,
        )
        self.responder = Connection(
            initiator=False,
            key_pair=KeyPair.from_seed(seed(2)),
            ephemeral_seed=seed(4),
            stream_header=b"\xb2" * 24,
            now=now,
        )

    def pump(
        self, now: float = 0.0, chunk_size: Callable[[], int] = lambda: 1 << 30
    ) -> tuple[list[Event], list[Event]]:
        """Returns: the events of the initiator and of the responder."""
        events: tuple[list[Event], list[Event]] = (self.initiator.events(), self.responder.events())
        ends = (self.initiator, self.responder)
        busy = True
        while busy:
            busy = False
            for place, end in enumerate(ends):
                data = b"".join(end.data_to_send())
                while data:
                    busy = True
                    size = max(1, chunk_size())
                    events[1 - place].extend(ends[1 - place].receive(bytearray(data[:size]), now))
                    data = data[size:]
        return events
