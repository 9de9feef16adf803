"""A writer and a reader of the same log without a network: the reader asks, the writer answers."""

from collections.abc import Iterable

from p2prss.log.applying import Applied, Outcome
from p2prss.log.log import Log
from p2prss.log.proof import nodes_needed
from p2prss.log.proof_parts import BlockRequest, Proof, ProofRequest, UpgradeRequest


def upgrade_request(reader: Log, writer: Log, block: int | None = None) -> ProofRequest:
    """Ask for everything the writer has; from nothing, when it has a higher fork."""
    start = reader.length if reader.fork == writer.fork else 0
    return ProofRequest(
        fork=writer.fork,
        block=None if block is None else BlockRequest(block, 0),
        upgrade=UpgradeRequest(start, writer.length - start),
        manifest=reader.manifest is None,
    )


def block_request(reader: Log, index: int) -> ProofRequest:
    """Ask for one block of the known part."""
    levels = nodes_needed(2 * index, reader.length, lambda place: reader.node(place) is not None)
    return ProofRequest(fork=reader.fork, block=BlockRequest(index, levels))


def answered(writer: Log, requests: Iterable[ProofRequest]) -> list[tuple[ProofRequest, Proof]]:
    """The writer's answers, next to what was asked."""
    return [(request, writer.answer(request)) for request in requests]


def upgrade(writer: Log, reader: Log) -> Applied:
    """Bring the reader to the writer's head."""
    (applied,) = reader.apply(answered(writer, [upgrade_request(reader, writer)]))
    return applied


def fetch(writer: Log, reader: Log, indexes: Iterable[int], batch: int = 8) -> None:
    """Bring blocks to the reader, several in one step."""
    wanted = list(indexes)
    for start in range(0, len(wanted), batch):
        requests = [block_request(reader, index) for index in wanted[start : start + batch]]
        for applied in reader.apply(answered(writer, requests)):
            assert applied.outcome in (Outcome.STORED, Outcome.STALE), applied
