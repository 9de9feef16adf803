"""Two signed versions of one log: its writer was at work in two places, or lost control of its key."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from p2prss.codec.compact import Reader
from p2prss.errors import ConflictError, P2prssError
from p2prss.log.authority import Authority
from p2prss.log.log import Log
from p2prss.log.merkle import Head
from p2prss.log.proof_parts import Proof, TreeNode, UpgradeProof, UpgradeRequest
from p2prss.log.store import Store
from p2prss.log.verify import KnownLog, verify_proof
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.wire.messages import Data, NoData, NoDataReason
from tests.fakes.lying_peer import LyingPeer
from tests.robust.conftest import Scene, until

PRIMARY_KEY = bytes(range(32))


class Place:
    """A home, and what it was told of conflicts."""

    def __init__(self, nursery: trio.Nursery, store: Store) -> None:
        self.store = store
        self.told: list[Log] = []
        self.exchange = Exchange(store, nursery, random=Random(1), patience=2.0, on_conflict=self.told.append)

    def writer(self, *blocks: bytes) -> PeerCore:
        log = self.store.create("show")
        log.append(blocks)
        return PeerCore(self.exchange.session(log))


@pytest.fixture
def place(nursery: trio.Nursery) -> Callable[..., Place]:
    return lambda store=None: Place(nursery, store or Store.in_memory(PRIMARY_KEY))


async def join(nursery: trio.Nursery, one: Place, other: Place) -> None:
    near, far = memory_stream_pair()

    async def use(place: Place, stream: trio.abc.Stream, initiator: bool) -> None:
        with suppress(P2prssError):
            await place.exchange.use_stream(stream, initiator, "peer")

    nursery.start_soon(use, one, near, True)
    nursery.start_soon(use, other, far, False)


def heads_of(evidence: bytes, log: Log) -> list[Head]:
    """The heads that the evidence proves to somebody who knows nothing but the log's key."""
    src, heads = Reader(evidence), []
    while src.remaining:
        proof: Proof = Data.decode(Reader(src.buffer(2**20))).proof
        nobody = KnownLog(Head.empty(0), Authority(log.key), lambda index: None)
        changeset = verify_proof(nobody, None, proof)
        assert changeset.head is not None
        heads.append(changeset.head)
    return heads


@pytest.mark.parametrize("other", [(b"a", b"B", b"C"), (b"A", b"B", b"C", b"D", b"E")])
async def test_a_reader_keeps_both_heads_and_stops(
    place: Callable[..., Place], nursery: trio.Nursery, tmp_path: Path, other: tuple[bytes, ...]
) -> None:
    first, second = place(), place()
    store = Store.open(tmp_path)
    reader = place(store)
    log = store.open_log(first.writer(b"a", b"b").key)
    core = PeerCore(reader.exchange.session(log, eager=True))
    core.follow_tip()
    await join(nursery, reader, first)
    with trio.fail_after(5):
        await core.wait_whole()
        second.writer(*other)
        await join(nursery, reader, second)
        await until(lambda: reader.told)
        with pytest.raises(ConflictError):
            await core.wait_changed(core.length, core.fork)
        await until(lambda: not core.session.peers)
    assert reader.told == [log]
    assert (log.frozen, log.length) == (True, 2)
    assert await core.get(1) == b"b"  # what is here stays here
    ours, theirs = heads_of(store.get_record("conflict", log.key.hex()) or b"", log)
    assert (ours.length, theirs.length) == (2, len(other))
    store.close()
    with Store.open(tmp_path) as store:
        again = place(store)
        copy = PeerCore(again.exchange.session(store.open_log(log.key), eager=True))
        await join(nursery, again, first)
        with pytest.raises(ConflictError):
            await copy.wait_length(3)
        assert copy.session.peers == 0


async def test_a_writer_that_meets_its_double_writes_no_more(
    place: Callable[..., Place], nursery: trio.Nursery
) -> None:
    first, second = place(), place()
    one, two = first.writer(b"a", b"b"), second.writer(b"a", b"B", b"C")
    first.exchange.session(one.log, eager=True)
    await join(nursery, first, second)
    await until(lambda: first.told)
    with pytest.raises(ConflictError) as caught:
        await one.append([b"c"])
    assert caught.value.exit_code == 4
    assert two.length == 3


async def test_a_writer_restored_from_an_older_backup_goes_on(
    place: Callable[..., Place], nursery: trio.Nursery
) -> None:
    first, second = place(), place()
    one, two = first.writer(b"a", b"b"), second.writer(b"a", b"b", b"c")
    first.exchange.session(one.log, eager=True)
    await join(nursery, first, second)
    with trio.fail_after(5):
        await one.wait_length(3)
    assert one.log.head == two.log.head
    assert not first.told


@pytest.mark.parametrize("then", ["refuses", "tells the truth", "is silent"])
async def test_a_liar_is_asked_once_more_and_then_dropped(
    nursery: trio.Nursery, mock_clock: MockClock, then: str
) -> None:
    mock_clock.rate = 1.0
    scene = Scene(nursery)
    scene.connect_honest()
    await scene.download()

    async def lie(peer: LyingPeer) -> None:
        length = peer.truth.length
        await peer.ready(length=length + 1, remote_length=length)
        (request,) = await peer.hear_requests()
        made_up = UpgradeProof(length, 1, [TreeNode(2 * length, 1, bytes(32))], [], bytes(64))
        await peer.say(Data(request.id, Proof(0, upgrade=made_up)))
        (request,) = await peer.hear_requests()
        assert request.proof.upgrade == UpgradeRequest(0, length)
        peer.lied.set()
        if then == "refuses":
            await peer.say(NoData(request.id, NoDataReason.NOT_AVAILABLE))
        elif then == "tells the truth":
            await peer.say(peer.honest(request))
        while True:
            await trio.sleep(5)
            await peer.say_frame(b"")

    await scene.let_in(scene.reader, lie, initiator=True, label="liar").lied.wait()
    mock_clock.rate = 20.0
    await until(lambda: scene.reader.drops, 30)
    assert scene.reader.drops == {"bad-proof": 1}
    assert not scene.core.log.frozen
