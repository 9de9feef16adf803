"""Many listeners of one episode that is here, some of whom have paused."""

import re
import socket
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import trio

from p2prss.units import KIB
from tests.e2e.program import Program, running
from tests.e2e.show import Enclosure, Show, served

LISTENERS = 16
PAUSED = 48
LISTENER_BYTES = 512 * KIB  # that each of all these may cost
FAIR_PART = 1 / 4  # of the episode; who has less when the first one has all was left behind


async def ask(episode: Enclosure, buffer_bytes: int | None = None) -> tuple[trio.SocketStream, bytes]:
    """Begin to get an episode, with that much room for what is not read yet; the first bytes of it."""
    parts = urlsplit(episode.url)
    sock = trio.socket.socket()
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    await sock.connect((parts.hostname, parts.port))
    stream = trio.SocketStream(sock)
    await stream.send_all(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    head, end, body = b"", b"", b""
    while not end:
        head += await stream.receive_some(4 * KIB)
        head, end, body = head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return stream, body


class Listener:
    """One who gets an episode as fast as it comes."""

    def __init__(self, episode: Enclosure) -> None:
        self.received = 0
        self.hash = ""
        self._episode = episode

    async def listen(self) -> None:
        stream, data = await ask(self._episode)
        digest = sha256(data)
        async with stream:
            self.received = len(data)
            while self.received < self._episode.byte_length:
                data = await stream.receive_some(64 * KIB)
                assert data
                digest.update(data)
                self.received += len(data)
        self.hash = digest.hexdigest()


async def peak_memory(program: Program) -> int:
    """The most bytes of memory a program has had."""
    status = await trio.Path(f"/proc/{program.pid}/status").read_text("ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * KIB


async def test_nobody_starves_and_who_pauses_costs_little(long_show: Show, tmp_path: Path) -> None:
    arguments = ("publish", long_show.feed, "--all", "--http", "127.0.0.1:0")
    async with running(*arguments, home=tmp_path / "a") as program:
        await program.event("published")
        episode = (await served((await program.event("ready"))["feed_url"]))[-1]
        alone = Listener(episode)
        await alone.listen()
        before = await peak_memory(program)

        paused = [await ask(episode, 16 * KIB) for _ in range(PAUSED)]
        listeners = [Listener(episode) for _ in range(LISTENERS)]
        part_of_the_last: list[float] = []

        async def listen(one: Listener) -> None:
            await one.listen()
            part_of_the_last.append(min(other.received for other in listeners) / episode.byte_length)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for one in listeners:
                    nursery.start_soon(listen, one)
        assert {one.hash for one in (alone, *listeners)} == {long_show.episodes[0]["sha256"]}
        assert part_of_the_last[0] > FAIR_PART
        grown = await peak_memory(program) - before
        assert grown < (LISTENERS + PAUSED) * LISTENER_BYTES
        for stream, _ in paused:
            await stream.aclose()
