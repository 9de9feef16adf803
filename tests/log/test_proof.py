"""Proofs between a writer and sparse readers: a model, tampering, and the rules one by one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2prss.codec.compact import Reader as BytesReader
from p2prss.crypto.keys import KeyPair
from p2prss.errors import ProofError, RemoteProtocolError
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.manifest import Manifest, Prologue, Signer, core_key
from p2prss.log.merkle import Head, TreeBatch, leaf_hash
from p2prss.log.proof import InvalidRequestError, NotHeldError, nodes_needed
from p2prss.log.proof_parts import (
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
from p2prss.log.seek import seek
from p2prss.log.verify import MAX_PATH_NODES
from p2prss.wire.messages import Data
from tests.fakes.memory_log import MemoryLog, Reader, Writer

KEYS = KeyPair.from_seed(b"\x07" * 32)


def writer_of(length: int) -> Writer:
    writer = Writer.single(KEYS)
    writer.append(b"%d" % index * (index % 5) for index in range(length))
    return writer


def follow(reader: Reader, log: MemoryLog, **wanted: object) -> None:
    request = reader.request(**wanted)
    reader.apply(request, log.answer(request))


def reader_of(log: MemoryLog) -> Reader:
    reader = Reader(log.authority.key)
    follow(reader, log, upgrade_to=log.head.length)
    return reader


# A model: the log is a plain list, per fork.

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.binary(max_size=6), min_size=1, max_size=9)),
        st.tuples(st.just("truncate"), st.integers(0, 40)),
        st.tuples(st.just("upgrade"), st.integers(0, 40), st.integers(0, 60)),
        st.tuples(st.just("block"), st.integers(0, 60), st.integers(0, 3)),
        st.tuples(st.just("hash"), st.integers(0, 90), st.integers(0, 3)),
        st.tuples(st.just("seek"), st.integers(0, 200), st.integers(0, 60)),
        st.tuples(st.just("relay"), st.integers(0, 60), st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=20), steps)
def test_readers_hold_what_was_written(first: list[bytes], script: list[tuple]) -> None:
    writer = Writer.single(KEYS)
    writer.append(first)
    blocks = list(first)
    near, far = Reader(writer.authority.key), Reader(writer.authority.key)  # far asks near alone
    for name, *arguments in script:
        match name, arguments:
            case "append", (more,):
                writer.append(more)
                blocks += more
            case "truncate", (length,):
                length = min(length, len(blocks))
                writer.truncate(length)
                del blocks[length:]
            case "relay", (index, extra):
                exchange(far, near, index, extra)
            case "upgrade", (length, index) if len(blocks):
                if near.head.fork != writer.head.fork:
                    follow(near, writer, upgrade_to=len(blocks), fork=writer.head.fork)
                elif near.head.length < len(blocks):
                    stop = min(len(blocks), near.head.length + 1 + length)
                    follow(near, writer, upgrade_to=stop, block=index if index < stop else None)
            case _ if near.head.fork != writer.head.fork or not near.head.length:
                continue
            case "block", (index, extra):
                follow(near, writer, block=index % near.head.length, extra_levels=extra)
            case "hash", (tree_index, extra):
                if flat_tree.right_span(tree_index) < 2 * near.head.length:
                    follow(near, writer, node=tree_index, extra_levels=extra)
            case "seek", (offset, index):
                seek_with_help(near, writer, offset % (near.head.byte_length + 1), index)
        for reader in (near, far):
            if reader.head.fork == writer.head.fork:
                agree(reader, writer, blocks)


def exchange(reader: Reader, log: Reader, index: int, extra: int) -> None:
    """A reader serves another as far as it can."""
    if not log.head.length:
        return
    try:
        if reader.head.fork != log.head.fork:
            follow(reader, log, upgrade_to=log.head.length, fork=log.head.fork)
        elif reader.head.length < log.head.length:
            follow(reader, log, upgrade_to=log.head.length)
        else:
            follow(reader, log, block=index % log.head.length, extra_levels=extra)
    except NotHeldError:
        pass


def seek_with_help(reader: Reader, writer: Writer, offset: int, index: int) -> None:
    """Narrow a byte down as a reader does, until it is found; each answer must help."""
    sure = seek(writer.head, writer.nodes.get, offset)
    if reader.head.length < writer.head.length and index % 2:
        follow(reader, writer, upgrade_to=writer.head.length, seek=(offset, 0))
    while not (found := seek(reader.head, reader.nodes.get, offset)).found:
        below = found.start + index % (found.stop - found.start)
        follow(reader, writer, node=2 * below, seek=(offset, 0))
        narrowed = seek(reader.head, reader.nodes.get, offset)
        assert narrowed.stop - narrowed.start < found.stop - found.start
    if offset < reader.head.byte_length:
        assert found == sure


def agree(reader: Reader, writer: Writer, blocks: list[bytes]) -> None:
    """All a reader holds is the writer's, and enough to check more."""
    assert reader.blocks.items() <= dict(enumerate(blocks)).items()
    assert reader.nodes.items() <= writer.nodes.items()
    assert reader.head.byte_length == sum(map(len, blocks[: reader.head.length]))
    assert all(reader.nodes.get(root.index) == root for root in reader.head.roots)
    for index in reader.blocks:
        assert leaf_hash(blocks[index]) == reader.nodes[2 * index].hash


# Tampering: whatever is changed in an answer, a reader refuses it or holds only what is true.

requests: list[Callable[[Reader], ProofRequest]] = [
    lambda reader: reader.request(block=7),
    lambda reader: reader.request(block=2, extra_levels=3),
    lambda reader: reader.request(node=9),
    lambda reader: reader.request(node=2, seek=(17, 0)),
    lambda reader: reader.request(upgrade_to=20),
    lambda reader: reader.request(upgrade_to=15, block=13),
    lambda reader: reader.request(upgrade_to=20, seek=(30, 0)),
    lambda reader: reader.request(upgrade_to=20, block=3),
    lambda reader: reader.request(upgrade_to=18, fork=1),
    lambda reader: reader.request(upgrade_to=18, block=12, fork=1),
]


@settings(max_examples=400)
@given(
    st.sampled_from(requests),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 7)), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_flipped_bits_change_nothing_to_something_wrong(
    ask: Callable[[Reader], ProofRequest], flips: list[tuple[int, int]], unasked: bool, fresh: bool
) -> None:
    writer = writer_of(12)
    reader = Reader(writer.authority.key) if fresh else reader_of(writer)
    if not fresh:
        follow(reader, writer, block=5)
    writer.append([b"new"] * 8)
    request = ask(reader)
    if request.fork:
        writer.truncate(10)
        writer.append([b"other"] * 8)
    try:
        data = bytearray(b"".join(Data(1, writer.answer(request)).encode_parts()))
    except InvalidRequestError:
        return  # a fresh reader has no blocks to ask about yet
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    before = (reader.head, dict(reader.nodes), dict(reader.blocks))
    try:
        proof = Data.decode(BytesReader(data)).proof
        reader.apply(None if unasked else request, proof)
    except RemoteProtocolError:
        assert (reader.head, reader.nodes, reader.blocks) == before
        return
    truth = writer if reader.head.fork == writer.head.fork else writer_of(12)
    if reader.head.fork == writer.head.fork:
        signed = Head.at(reader.head.length, reader.head.fork, writer.nodes.get)
        assert signed is not None
        assert reader.head.tree_hash == signed.tree_hash
    assert reader.blocks.items() <= truth.blocks.items()
    for index, node in reader.nodes.items():
        assert node.hash == truth.nodes[index].hash
    assert reader.head.byte_length == sum(node.size for node in reader.head.roots)


nodes = st.builds(
    TreeNode, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32)
)


@given(st.binary(max_size=400), st.booleans())
def test_any_data_is_refused_or_true(data: bytes, known: bool) -> None:
    writer = writer_of(5)
    reader = reader_of(writer) if known else Reader(writer.authority.key)
    before = dict(reader.nodes)
    try:
        proof = Data.decode(BytesReader(data)).proof
        reader.apply(None, proof)
    except RemoteProtocolError:
        pass
    assert reader.nodes == before


@given(st.lists(nodes, max_size=4), st.lists(nodes, max_size=4), st.integers(0, 2**53), st.integers(0, 2**53))
def test_huge_numbers_are_refused(
    path: list[TreeNode], more: list[TreeNode], start: int, length: int
) -> None:
    writer = writer_of(5)
    reader = reader_of(writer)
    answer = writer.answer(ProofRequest(0, upgrade=UpgradeRequest(0, 5), block=BlockRequest(4, 0)))
    assert answer.upgrade is not None
    assert answer.block is not None
    upgrade = answer.upgrade._replace(start=start, length=length, nodes=path, additional=more)
    for fork in (0, 1, 2**53 - 1):
        with pytest.raises(ProofError):
            reader.check(None, Proof(fork, block=answer.block._replace(nodes=path + more), upgrade=upgrade))
        with pytest.raises(ProofError):
            Reader(writer.authority.key).check(None, Proof(fork, upgrade=upgrade))


# The rules, one by one


@given(st.integers(1, 40), st.integers(0, 39), st.sets(st.integers(0, 80)))
def test_nodes_needed_counts_the_levels_up_to_a_node_we_hold(
    length: int, index: int, extra: set[int]
) -> None:
    held = extra | set(flat_tree.full_roots(length))
    needed = nodes_needed(2 * index, length, held.__contains__)
    if index >= length:
        assert needed == 0
        return
    node, levels = 2 * index, 0
    while node not in held:
        node, levels = flat_tree.parent(node), levels + 1
    assert needed == levels


def test_another_valid_block_is_not_the_answer() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    asked, other = reader.request(block=2), reader.request(block=3)
    assert reader.check(other, writer.answer(other)).block is not None
    with pytest.raises(ProofError, match="not to what was asked"):
        reader.check(asked, writer.answer(other))
    with pytest.raises(ProofError, match="not to what was asked"):
        reader.check(asked, Proof(0))
    with pytest.raises(ProofError, match="not to what was asked"):
        reader.check(reader.request(upgrade_to=9), writer.answer(other))
    with pytest.raises(ProofError, match="another seek"):
        reader.check(asked, writer.answer(replace(asked, seek=SeekRequest(8, 0))))


def test_more_nodes_than_needed_are_fine_and_too_few_are_unconnected() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    many, few = reader.request(block=2), ProofRequest(0, block=BlockRequest(2, 1))
    with pytest.raises(ProofError) as caught:
        reader.check(few, writer.answer(few))
    assert caught.value.unconnected
    follow(reader, writer, block=3)
    reader.apply(many, writer.answer(many))
    assert sorted(reader.blocks) == [2, 3]


def test_an_answer_may_come_after_the_log_has_grown() -> None:
    writer = writer_of(5)
    reader = reader_of(writer)
    writer.append([b"x"] * 3)
    slow = reader.request(upgrade_to=8, block=6)
    slow_answer, bare = writer.answer(slow), replace(slow, block=None)
    bare_answer = writer.answer(bare)
    follow(reader, writer, upgrade_to=8)
    writer.append([b"y"] * 8)
    longer_answer = writer.answer(slow)  # to 8, and on to 16
    change = reader.apply(slow, slow_answer)
    assert (change.head, change.block) == (None, (6, b"x"))
    assert not reader.request(block=6).block.nodes
    assert reader.check(bare, bare_answer).stale
    reader.apply(slow, longer_answer)
    assert reader.head == writer.head
    agree(reader, writer, [writer.blocks[index] for index in range(16)])


def test_growth_that_does_not_show_our_head_is_unconnected() -> None:
    writer = writer_of(5)
    reader = reader_of(writer)
    writer.append([b"x"] * 2)
    late = replace(reader.request(upgrade_to=7), upgrade=UpgradeRequest(5, 7))
    follow(reader, writer, upgrade_to=7)
    writer.append([b"y"] * 5)
    with pytest.raises(ProofError) as caught:
        reader.check(late, writer.answer(late))
    assert caught.value.unconnected


def test_two_signed_logs_of_one_fork_are_a_conflict() -> None:
    writer, twin = writer_of(6), writer_of(5)
    twin.append([b"not the same"])
    reader = reader_of(writer_of(5))
    follow(reader, writer, upgrade_to=6)
    request = ProofRequest(0, upgrade=UpgradeRequest(0, 6))
    with pytest.raises(ProofError) as caught:
        reader.check(request, twin.answer(request))
    assert caught.value.reason == "conflict"
    twin.append([b"x"] * 2)
    longer = ProofRequest(0, upgrade=UpgradeRequest(5, 3))
    with pytest.raises(ProofError) as caught:
        reader.check(longer, twin.answer(longer))
    assert caught.value.reason == "conflict"
    twin.head = replace(twin.head, signature=bytes(68))
    with pytest.raises(ProofError) as caught:
        reader.check(longer, twin.answer(longer))
    assert caught.value.reason == "bad-signature"


def test_an_older_fork_says_nothing_and_a_higher_one_must_be_signed() -> None:
    writer = writer_of(9)
    reader, old = reader_of(writer), writer_of(9)
    follow(reader, writer, block=4)  # and with it nodes 3 and 9
    writer.truncate(6)
    writer.append([b"z"])
    request = reader.request(upgrade_to=7, fork=1)
    answer = writer.answer(request)
    for forged in (
        replace(answer, upgrade=answer.upgrade._replace(signature=old.head.signature)),
        replace(answer, upgrade=answer.upgrade._replace(signature=b"")),
        replace(answer, fork=2),
        replace(answer, upgrade=None),
    ):
        with pytest.raises(ProofError):
            reader.check(None, forged)
    change = reader.apply(request, answer)
    assert change.ancestors == 6
    assert reader.head == writer.head
    stale = ProofRequest(0, block=BlockRequest(1, 0))
    assert reader.check(stale, old.answer(stale)).stale


def test_shifted_sizes_never_replace_what_is_certain() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    follow(reader, writer, block=4)
    request = ProofRequest(0, hash=HashRequest(8, 3))
    answer = writer.answer(request)
    first, second, *rest = answer.hash.nodes
    shifted = [first._replace(size=first.size + 1), second._replace(size=second.size - 1), *rest]
    reader.apply(request, replace(answer, hash=answer.hash._replace(nodes=shifted)))
    agree(reader, writer, [writer.blocks[index] for index in range(8)])


def test_a_doubtful_pair_in_an_upgrade_is_put_right_by_a_block() -> None:
    writer = writer_of(8)
    request = ProofRequest(0, upgrade=UpgradeRequest(0, 4), manifest=True)
    answer = writer.answer(request)
    (root,), (added,) = answer.upgrade.nodes, answer.upgrade.additional
    forged = answer.upgrade._replace(
        nodes=[root._replace(size=root.size + 2)], additional=[added._replace(size=added.size - 2)]
    )
    reader = Reader(writer.authority.key)
    reader.apply(request, replace(answer, upgrade=forged))
    assert reader.head == writer.head  # the sum is certain
    assert reader.nodes[3].size != writer.nodes[3].size
    follow(reader, writer, block=1)
    agree(reader, writer, [writer.blocks[index] for index in range(8)])


def test_a_doubtful_pair_fits_the_half_we_are_sure_of() -> None:
    writer = writer_of(8)
    for sure, lost in ((8, 10), (10, 8)):
        reader = reader_of(writer)
        follow(reader, writer, block=4)
        del reader.nodes[lost]
        request = ProofRequest(0, hash=HashRequest(8, 3))
        answer = writer.answer(request)
        first, second, *rest = answer.hash.nodes
        shifted = [first._replace(size=first.size - 1), second._replace(size=second.size + 1), *rest]
        reader.apply(request, replace(answer, hash=answer.hash._replace(nodes=shifted)))
        assert reader.nodes[sure] == writer.nodes[sure]
        assert reader.nodes[lost] == writer.nodes[lost]


def test_a_doubtful_pair_of_a_fork_does_not_touch_what_is_kept() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    follow(reader, writer, block=1)
    writer.truncate(7)
    request = ProofRequest(1, upgrade=UpgradeRequest(0, 7))
    answer = writer.answer(request)
    upgrade = answer.upgrade
    halves = [writer.nodes[1], writer.nodes[5]]  # given in place of their parent, with a byte moved
    shifted = [halves[0]._replace(size=halves[0].size + 1), halves[1]._replace(size=halves[1].size - 1)]
    forged = upgrade._replace(length=2, nodes=shifted[:1], additional=[shifted[1], *upgrade.nodes[1:]])
    reader.apply(None, replace(answer, upgrade=forged))
    assert reader.head == writer.head
    assert reader.nodes.items() <= writer.nodes.items()


def test_a_corrected_node_without_its_parent_stands_alone() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    follow(reader, writer, block=4)
    reader.nodes[8] = reader.nodes[8]._replace(size=99)
    del reader.nodes[9]
    follow(reader, writer, block=4)
    assert reader.nodes[8] == writer.nodes[8]


@pytest.mark.parametrize("offset", range(25))
def test_a_seek_in_an_upgrade_shows_the_way_to_its_byte(offset: int) -> None:
    writer = writer_of(13)
    reader = Reader(writer.authority.key)
    request = ProofRequest(0, upgrade=UpgradeRequest(0, 13), seek=SeekRequest(offset, 0), manifest=True)
    answer = writer.answer(request)
    if offset > writer.head.byte_length:
        assert answer.seek is None
    reader.apply(request, answer)
    assert seek(reader.head, reader.nodes.get, offset) == seek(writer.head, writer.nodes.get, offset)


def test_a_seek_may_show_the_hash_asked_for() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    request = ProofRequest(0, hash=HashRequest(5, 2), seek=SeekRequest(3, 0))
    path = [writer.nodes[index] for index in (1, 11)]
    below = SeekProof(3, [writer.nodes[6], writer.nodes[4]])
    reader.apply(request, Proof(0, hash=HashProof(5, path), seek=below))
    assert {4, 6, 5, 1, 3, 11} <= reader.nodes.keys()
    assert reader.nodes.items() <= writer.nodes.items()


def test_lists_that_no_tree_needs_are_refused_before_hashing() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    many = [TreeNode(0, 0, bytes(32))] * (MAX_PATH_NODES + 1)
    block = writer.answer(reader.request(block=1)).block
    upgrade = UpgradeProof(8, 1, many, [], b"")
    for proof in (
        Proof(0, block=block._replace(nodes=many)),
        Proof(0, upgrade=upgrade),
        Proof(0, upgrade=upgrade._replace(nodes=[], additional=many)),
    ):
        with pytest.raises(ProofError):
            reader.check(None, proof)


def test_a_log_too_large_to_count_is_refused() -> None:
    root = TreeNode(2**52 - 1, 2**53 - 1, bytes(32))
    more = TreeNode(2**53 - 1 + 2**52, 2**53 - 1, bytes(32))
    upgrade = UpgradeProof(0, 2**52, [TreeNode(2**52 - 1, 1, bytes(32))], [], b"")
    for nodes, additional in (
        ([root], [more]),
        ([TreeNode(0, 2**53 - 1, bytes(32))], [TreeNode(2, 1, bytes(32))]),
    ):
        length = flat_tree.leaves(nodes[0].index)
        forged = upgrade._replace(length=length, nodes=nodes, additional=additional)
        with pytest.raises(ProofError, match="no log has"):
            Reader(writer_of(1).authority.key).check(None, Proof(0, upgrade=forged))


def test_an_upgrade_from_or_to_a_length_we_passed_over_is_unconnected() -> None:
    writer = writer_of(12)
    reader = reader_of(writer)
    early = writer_of(7)
    for request, log in (
        (ProofRequest(0, upgrade=UpgradeRequest(5, 7)), writer),
        (ProofRequest(0, upgrade=UpgradeRequest(0, 7)), early),
    ):
        with pytest.raises(ProofError) as caught:
            reader.check(request, log.answer(request))
        assert caught.value.unconnected


def test_a_block_must_be_part_of_the_fork_that_comes_with_it() -> None:
    writer = writer_of(8)
    reader = reader_of(writer)
    stray = writer.answer(reader.request(block=1)).block
    writer.truncate(4)
    writer.append([b"other"] * 4)
    answer = writer.answer(ProofRequest(1, upgrade=UpgradeRequest(0, 8)))
    with pytest.raises(ProofError):
        reader.check(None, replace(answer, block=stray._replace(nodes=stray.nodes[:1])))


def test_a_log_must_begin_with_its_prologue() -> None:
    batch = TreeBatch(Head.empty())
    blocks = [b"%d" % index for index in range(9)]
    for block in blocks[:4]:
        batch.append(block)
    manifest = Manifest(1, 1, (Signer(KEYS.public_key),), prologue=Prologue(batch.head().tree_hash, 4))
    authority = Authority(core_key(manifest), manifest)
    writer, liar = Writer(authority, KEYS), Writer(authority, KEYS)
    writer.append(blocks)
    liar.append([b"?", *blocks[1:]])
    whole = ProofRequest(0, upgrade=UpgradeRequest(0, 9), manifest=True)
    reader = Reader(authority.key)
    with pytest.raises(ProofError, match="prologue"):
        reader.check(whole, liar.answer(whole))
    answer = writer.answer(whole)
    at_once = replace(answer, upgrade=answer.upgrade._replace(length=9, nodes=[], additional=[]))
    with pytest.raises(ProofError):
        reader.check(whole, at_once)
    reader.apply(whole, answer)
    assert reader.head == writer.head


@pytest.mark.parametrize(
    "request_",
    [
        ProofRequest(0, block=BlockRequest(8, 0)),
        ProofRequest(0, block=BlockRequest(2**52, 0)),
        ProofRequest(0, block=BlockRequest(1, 4)),
        ProofRequest(0, block=BlockRequest(1, 2**53 - 1)),
        ProofRequest(0, hash=HashRequest(15, 0)),
        ProofRequest(0, upgrade=UpgradeRequest(0, 0)),
        ProofRequest(0, upgrade=UpgradeRequest(8, 1)),
        ProofRequest(0, upgrade=UpgradeRequest(2**53, 2**53)),
        ProofRequest(0, upgrade=UpgradeRequest(0, 4), block=BlockRequest(5, 0)),
        ProofRequest(0, upgrade=UpgradeRequest(2, 6), hash=HashRequest(3, 0)),
        ProofRequest(0, upgrade=UpgradeRequest(2, 6), hash=HashRequest(3, 0), seek=SeekRequest(1, 0)),
        ProofRequest(0, upgrade=UpgradeRequest(2, 6), block=BlockRequest(3, 0), seek=SeekRequest(1, 0)),
        ProofRequest(0, block=BlockRequest(7, 1), seek=SeekRequest(0, 0)),
        ProofRequest(0, block=BlockRequest(0, 1), seek=SeekRequest(2**53, 2**53)),
    ],
    ids=lambda request: str(request)[13:80],
)
def test_requests_nobody_could_answer(request_: ProofRequest) -> None:
    with pytest.raises(InvalidRequestError):
        writer_of(8).answer(request_)


def test_odd_requests_are_answered_as_by_the_reference() -> None:
    writer = writer_of(8)
    assert writer.answer(ProofRequest(0)) == Proof(0)
    assert writer.answer(ProofRequest(0, seek=SeekRequest(1, 0))) == Proof(0)
    block = BlockRequest(3, 1)
    assert writer.answer(ProofRequest(0, block=block, hash=HashRequest(0, 1))) == writer.answer(
        ProofRequest(0, block=block)
    )


def test_what_is_not_held_is_said_so() -> None:
    writer = writer_of(8)
    del writer.blocks[3]
    for request in (
        ProofRequest(0, block=BlockRequest(3, 0)),
        ProofRequest(1, block=BlockRequest(2, 0)),
        ProofRequest(1, upgrade=UpgradeRequest(0, 8)),
    ):
        with pytest.raises(NotHeldError):
            writer.answer(request)
    sparse = reader_of(writer)
    with pytest.raises(NotHeldError):
        sparse.answer(ProofRequest(0, upgrade=UpgradeRequest(3, 5)))
    assert sparse.answer(ProofRequest(0, upgrade=UpgradeRequest(0, 8))).upgrade is not None


def test_an_answer_to_a_seek_we_lack_the_nodes_for_is_the_path_alone() -> None:
    writer = writer_of(8)
    sparse = reader_of(writer)
    request = ProofRequest(0, hash=HashRequest(8, 0), seek=SeekRequest(9, 0))
    follow(sparse, writer, block=4)
    del sparse.nodes[3]
    assert sparse.answer(request).seek is None
