"""Whether an answer is one to the question that was asked."""

from p2prss.log.proof_parts import Proof, ProofRequest


def exceeds(request: ProofRequest, proof: Proof) -> bool:
    """Whether an answer has a part that was not asked for."""
    block, node, seek = proof.block, proof.hash, proof.seek
    return (
        (block is not None and (request.block is None or block.index != request.block.index))
        or (proof.upgrade is not None and request.upgrade is None)
        or (node is not None and (request.hash is None or node.index != request.hash.index))
        or (seek is not None and (request.seek is None or seek.byte_offset != request.seek.byte_offset))
        or (proof.manifest is not None and not request.manifest)
    )


def lacks(request: ProofRequest, proof: Proof) -> bool:
    """Whether an answer is about another fork, or misses a part that was asked for.

    A seek part may be missing: often the nodes of the other parts tell the place.
    """
    return (
        proof.fork != request.fork
        or (proof.block is None and request.block is not None)
        or (proof.upgrade is None and request.upgrade is not None)
        or (proof.hash is None and request.hash is not None)
    )
