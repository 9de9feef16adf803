"""Any sequence of messages gives events or a Drop: no exception, no unbounded memory."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from p2prss.log.log import Log, NotHeldError
from p2prss.log.proof import InvalidRequestError
from p2prss.log.proof_parts import (
    BlockProof,
    BlockRequest,
    HashProof,
    HashRequest,
    Proof,
    ProofRequest,
    SeekProof,
    SeekRequest,
    TreeNode,
    UpgradeProof,
    UpgradeRequest,
)
from p2prss.replication.events import Apply, Drop, Send, Serve
from p2prss.replication.limits import MAX_LATE, MAX_QUEUED_REQUESTS, MAX_REMOTE_WANTS, MAX_SERVING
from p2prss.replication.replicator import Replicator
from p2prss.replication.wants import Priority
from p2prss.units import MAX_SAFE_INTEGER
from p2prss.wire.messages import (
    BitfieldMessage,
    Cancel,
    Data,
    Extension,
    Message,
    NoData,
    NoDataReason,
    Range,
    Request,
    Sync,
    Unwant,
    Want,
)
from tests.fakes.replication_network import copy_of, reader_of, written

numbers = st.integers(0, 70) | st.sampled_from([2**21, 2**32, 2**50, MAX_SAFE_INTEGER])
ids = st.integers(0, 40)
nodes = st.lists(st.builds(TreeNode, numbers, numbers, st.just(bytes(32))), max_size=3)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


requests = st.builds(
    ProofRequest,
    st.integers(0, 2),
    block=maybe(st.builds(BlockRequest, numbers, numbers)),
    hash=maybe(st.builds(HashRequest, numbers, numbers)),
    seek=maybe(st.builds(SeekRequest, numbers, numbers)),
    upgrade=maybe(st.builds(UpgradeRequest, numbers, numbers)),
    manifest=st.booleans(),
)
proofs = st.builds(
    Proof,
    st.integers(0, 2),
    block=maybe(st.builds(BlockProof, numbers, st.binary(max_size=4), nodes)),
    hash=maybe(st.builds(HashProof, numbers, nodes)),
    seek=maybe(st.builds(SeekProof, numbers, nodes)),
    upgrade=maybe(st.builds(UpgradeProof, numbers, numbers, nodes, nodes, st.just(bytes(64)))),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Sync, st.integers(0, 2) | numbers, numbers, numbers, st.booleans(), st.booleans(), st.booleans()
    ),
    st.builds(Request, ids, requests, ids),
    st.builds(Cancel, ids),
    st.builds(Data, ids, proofs),
    st.builds(NoData, ids, st.sampled_from(NoDataReason)),
    st.builds(Want, numbers, numbers, st.booleans()),
    st.builds(Unwant, numbers, numbers, st.booleans()),
    st.builds(BitfieldMessage, numbers, st.integers(0, 40).map(lambda words: b"\x5a\xff\x00\x81" * words)),
    st.builds(Range, numbers, numbers, st.booleans()),
    st.builds(Extension, st.just("name"), st.binary(max_size=9)),
)
SOURCE = written(60)


class Shell:
    """Carries out events over a log, and answers honestly for one peer when told to."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.replicator = Replicator(log, random=Random(0))
        self.asked: list[Request] = []
        self.dropped: list[int] = []
        self.now = 0.0

    def drain(self) -> None:
        for event in self.replicator.events():
            match event:
                case Send(2, Request() as request):
                    self.asked.append(request)
                case Serve(peer, request):
                    self.replicator.served(peer, request, self.answer(self.log, request), self.now)
                case Apply(_, request, proof):
                    self.replicator.applied(event, self.log.apply([(request, proof)])[0], self.now)
                case Drop(peer):
                    self.dropped.append(peer)

    @staticmethod
    def answer(log: Log, request: Request) -> Proof | NoDataReason:
        try:
            return log.answer(request.proof)
        except NotHeldError:
            return NoDataReason.NOT_AVAILABLE
        except InvalidRequestError:
            return NoDataReason.INVALID_REQUEST


@given(st.lists(messages | st.floats(0, 30), max_size=60), st.sampled_from([0, 1, 2, 3]))
def test_whatever_a_peer_says_the_others_are_served_and_the_rest_arrives(
    script: list[Message | float], start: int
) -> None:
    log = [reader_of(SOURCE), copy_of(SOURCE, []), copy_of(SOURCE, range(0, 60, 7)), SOURCE][start]
    shell = Shell(log)
    replicator = shell.replicator
    replicator.add_peer(1, 0.0)
    replicator.want(0, 60, Priority.READ_AHEAD)
    replicator.want(0, None)
    replicator.want_seek(1000)
    for item in script:
        if isinstance(item, float):
            shell.now += item
            replicator.handle_timer(shell.now)
        else:
            replicator.receive(1, item, shell.now)
        shell.drain()
        for peer in replicator._peers.values():
            assert len(peer.uploads) <= MAX_QUEUED_REQUESTS
            assert len(peer.uploads._serving) <= MAX_SERVING
            assert len(peer.late) <= MAX_LATE
            assert len(peer.interests._stretches) <= MAX_REMOTE_WANTS
            assert len(peer.holdings._bits._pages) <= 70
    # An honest peer comes: all the rest is here soon, whatever the first one did.
    replicator.add_peer(2, shell.now)
    replicator.receive(2, Range(0, 60), shell.now)
    replicator.receive(2, Sync(0, 60, log.length, can_upgrade=True, has_manifest=True), shell.now)
    shell.drain()
    for _ in range(300):
        if log.contiguous_length == 60:
            break
        for request in shell.asked[:]:
            shell.asked.remove(request)
            answer = Shell.answer(SOURCE, request)
            if isinstance(answer, NoDataReason):
                replicator.receive(2, NoData(request.id, answer), shell.now)
            else:
                replicator.receive(2, Data(request.id, answer), shell.now)
        shell.drain()
        shell.now += 0.25
        replicator.handle_timer(shell.now)
        shell.drain()
    assert log.contiguous_length == 60
    assert 2 not in shell.dropped
