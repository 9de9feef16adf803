"""The control socket: what a running node tells other programs of its user.

``control.sock`` in the home is a Unix socket that only the home's owner may open. One line of JSON asks,
one line answers: ``{"get": "status"}`` is the only question so far, an answer is a ``NodeStatus`` or has
the member ``error``. A socket is read and answered line by line until either side closes it. A file that
was left by a process that was killed is replaced: whoever holds the home's lock owns its name.

Lines rather than HTTP: both sides are this program, an order that runs for long will answer with the same
event lines as on stdout, and a node without podcast apps then needs no HTTP server.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import P2prssError
from p2prss.net.link import Link
from p2prss.net.session import Session
from p2prss.node.events import Notice
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import find_feed
from p2prss.node.open_feed import OpenFeed
from p2prss.units import KIB, MIB

if TYPE_CHECKING:
    from p2prss.node.node import Node

MAX_CLIENTS: Final = 16  # open at the same time
MAX_REQUEST: Final = 64 * KIB  # bytes of a line that asks
MAX_ANSWER: Final = 64 * MIB  # bytes of a line that answers
ACCEPT_PAUSE: Final = 0.5  # seconds to wait when no more clients can be taken
IDLE_SECONDS: Final = 60.0  # of a client that asks nothing, then it is closed
ANSWER_SECONDS: Final = 10.0  # that a program waits for an answer
BLOBS_SECONDS: Final = 0.5  # to find out which log holds a feed's files


class HeldBlocks(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer says it has of one log: ``blocks`` of the ``length`` that it knows of.

    It says so when asked: of a peer that has nothing for us there is nothing to know.
    """

    length: int = 0
    blocks: int = 0


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A peer of one feed; ``role`` is "dialed" or "accepted", ``transport`` "tcp" or "udx".

    ``path`` is the way to it: direct, open (one side can be reached by anybody), local network, punched
    (through the NATs of both), relayed.

    Bytes are those of blocks of this feed. ``has_entries`` is of the log that lists the feed,
    ``has_files`` of the one with its texts and media.
    """

    key: str
    slug: str
    address: str
    role: str
    transport: str = "tcp"
    path: str = "direct"
    bytes_received: int
    bytes_sent: int
    has_entries: HeldBlocks
    has_files: HeldBlocks


class FeedPeers(msgspec.Struct, frozen=True, kw_only=True):
    """An open feed, its own role in this home, and what is here of its logs."""

    key: str
    slug: str
    title: str
    role: str
    entries: HeldBlocks
    files: HeldBlocks
    peers: list[PeerStatus]


class LanStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` is that of the listener for neighbours, where there is one."""

    port: int | None
    neighbours: int


class DhtStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``online``: its nodes answer; ``reachable_by_key``: some relay for us.

    ``topics`` are the feeds' of this node, ``peers`` those that were found for them; ``failures`` are
    dials that came to nothing, by reason.
    """

    online: bool
    reachable_by_key: bool
    topics: int
    announced: int
    peers: int
    dials: int
    failures: dict[str, int]


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A running node; members are added over time."""

    pid: int
    uptime_seconds: float
    listening: list[str]
    http: str | None
    lan: LanStatus | None
    dht: DhtStatus | None = None
    links: int
    links_dropped: dict[str, int]  # by reason
    feeds: list[FeedPeers]


class _Request(msgspec.Struct):
    get: str


class _Failure(msgspec.Struct):
    error: str


# ---- the node's side


async def serve_control(
    node: "Node", *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer for ever. Where the system gives us no such socket, the node does without."""
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(_listening(node.settings.home))
        except OSError as error:
            node.emit(Notice(message=f"no control socket: {error.strerror or error}", level=1))
            task_status.started()
            return
        task_status.started()
        async with trio.open_nursery() as nursery:
            await _accept(node, listener, nursery)


async def _accept(node: "Node", listener: trio.SocketListener, nursery: trio.Nursery) -> None:
    clients = trio.CapacityLimiter(MAX_CLIENTS)
    while True:
        try:
            stream = await listener.accept()
        except OSError:  # out of file descriptors: peers come first
            await trio.sleep(ACCEPT_PAUSE)
            continue
        try:
            clients.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            continue
        nursery.start_soon(_serve_client, node, stream, clients)


@contextmanager
def _listening(home: HomePaths) -> Iterator[trio.SocketListener]:
    """The socket under its name in the home, which is free again afterwards. Raises: OSError."""
    new = home.control.with_suffix(".new")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        new.unlink(missing_ok=True)
        with _short(home, new.name) as path:
            bound.bind(path)
        try:
            new.chmod(0o600)
            bound.listen(MAX_CLIENTS)
            new.replace(home.control)
            listening = trio.socket.from_stdlib_socket(bound.dup())
        except OSError:
            new.unlink(missing_ok=True)
            raise
    try:
        yield trio.SocketListener(listening)
    finally:
        listening.close()
        home.control.unlink(missing_ok=True)


@contextmanager
def _short(home: HomePaths, name: str) -> Iterator[str]:
    """A path of a file in the home that is short enough for a socket, however deep the home is."""
    path = home.path / name
    if len(os.fsencode(path)) < 100 or not os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - no path of ours
        yield str(path)
        return
    folder = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


async def _serve_client(node: "Node", stream: trio.SocketStream, clients: trio.CapacityLimiter) -> None:
    try:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                rest = b""
                while True:
                    with trio.fail_after(IDLE_SECONDS):
                        line, rest = await _read_line(stream, rest, MAX_REQUEST)
                        if line is None:
                            return
                        await stream.send_all(msgspec.json.encode(await _answer(node, line)) + b"\n")
    except trio.TooSlowError:
        pass
    finally:
        clients.release_on_behalf_of(stream)


async def _answer(node: "Node", line: bytes) -> NodeStatus | _Failure:
    try:
        request = msgspec.json.decode(line, type=_Request)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _Failure(f"not understood: {error}")
    if request.get != "status":
        return _Failure(f"unknown question: {request.get[:100]}")
    return await node_status(node)


async def _read_line(stream: trio.SocketStream, rest: bytes, limit: int) -> tuple[bytes | None, bytes]:
    """The next line without its end, and what came after it; None at the end, or when it is too long."""
    received = bytearray(rest)
    seen = 0
    while (end := received.find(b"\n", seen)) < 0:
        seen = len(received)
        if seen > limit:
            return None, b""
        data = await stream.receive_some(64 * KIB)
        if not data:
            return None, b""
        received += data
    return bytes(received[:end]), bytes(received[end + 1 :])


async def node_status(node: "Node") -> NodeStatus:
    """What a node does at this moment."""
    lan = node.lan
    return NodeStatus(
        pid=os.getpid(),
        uptime_seconds=round(trio.current_time() - node.started_at, 3),
        listening=[str(address) for address in node.listening],
        http=node.http_url,
        lan=None if lan is None else LanStatus(port=lan.port, neighbours=len(lan.neighbours)),
        dht=None if node.swarm is None else DhtStatus(**asdict(node.swarm.statistics())),
        links=len(node.exchange.links),
        links_dropped=dict(node.exchange.drops),
        feeds=[await _feed_peers(node, feed) for feed in node.feeds],
    )


async def _feed_peers(node: "Node", feed: OpenFeed) -> FeedPeers:
    entries, files = feed.db.session, None
    if feed.db.length:
        with trio.move_on_after(BLOBS_SECONDS), contextlib.suppress(P2prssError):
            files = (await feed.blobs()).session
    found: dict[Link, dict[str, HeldBlocks]] = {}
    received: dict[Link, int] = {}
    sent: dict[Link, int] = {}
    for name, session in (("has_entries", entries), ("has_files", files)):
        if session is None:
            continue
        for one in session.replicator.peers():
            if (port := session.ports.get(one.peer)) is None:
                continue
            held = HeldBlocks(length=one.length, blocks=one.held)
            found.setdefault(port.link, {})[name] = held
            received[port.link] = received.get(port.link, 0) + one.bytes_received
            sent[port.link] = sent.get(port.link, 0) + one.bytes_sent
    key = format_key(feed.key)
    peers = [
        PeerStatus(
            key=key,
            slug=feed.slug,
            address=link.label,
            role="dialed" if link.connection.initiator else "accepted",
            transport=node.exchange.way(link).transport,
            path=node.exchange.way(link).path,
            bytes_received=received[link],
            bytes_sent=sent[link],
            has_entries=held.get("has_entries", HeldBlocks()),
            has_files=held.get("has_files", HeldBlocks()),
        )
        for link, held in found.items()
    ]
    return FeedPeers(
        key=key,
        slug=feed.slug,
        title=feed.title,
        role=str(feed.saved.role.value),
        entries=_held_here(entries),
        files=_held_here(files),
        peers=peers,
    )


def _held_here(session: Session | None) -> HeldBlocks:
    if session is None:
        return HeldBlocks()
    length = session.log.length
    return HeldBlocks(length=length, blocks=session.log.bitfield.count(0, length))


# ---- the other side


async def ask_status(home: HomePaths) -> NodeStatus:
    """The status of the node that runs on this home.

    Raises: P2prssError when none does, or it doesn't answer.
    """
    try:
        with trio.fail_after(ANSWER_SECONDS), _short(home, home.control.name) as path:
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(b'{"get":"status"}\n')
                line, _ = await _read_line(stream, b"", MAX_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise P2prssError(f"no node runs on {home.path}; publish, follow and seed start one") from None
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise P2prssError(f"the node of {home.path} does not answer: {error}") from error
    if line is None:
        raise P2prssError(f"the node of {home.path} does not answer")
    try:
        return msgspec.json.decode(line, type=NodeStatus)
    except msgspec.MsgspecError as error:
        raise P2prssError(f"the node of {home.path} is of another version: {error}") from error


async def node_runs(home: HomePaths) -> bool:
    """Whether a node of this home answers."""
    try:
        await ask_status(home)
    except P2prssError:
        return False
    return True


async def list_peers(home: HomePaths, feed: str | None) -> tuple[NodeStatus, list[PeerStatus]]:
    """The peers of a running node, of one feed or of all.

    Raises: P2prssError when no node runs, UsageError for an unknown feed.
    """
    status = await ask_status(home)
    key = None if feed is None else (await find_feed(home, feed)).key
    return status, [peer for one in status.feeds if key in (None, one.key) for peer in one.peers]
