"""What shows that a log is in conflict: both signed heads, for anybody who has the log's key."""

from p2prss.codec.compact import Writer
from p2prss.log.log import Log
from p2prss.log.merkle import Head
from p2prss.log.proof import InvalidRequestError, NotHeldError
from p2prss.log.proof_parts import Proof, ProofRequest, UpgradeProof, UpgradeRequest
from p2prss.wire.messages import Data


def make_evidence(log: Log, other: Head) -> bytes:
    """Two ``Data`` messages, each behind its size as a uint: our head and the other, proved from nothing.

    Ours is proved by way of the length of the other where that is shorter, so that one can see where they
    part. Raises: StorageError.
    """
    evidence = Writer()
    for proof in (_our_proof(log, other.length), _bare_proof(log, other)):
        evidence.buffer(b"".join(Data(0, proof).encode_parts()))
    return evidence.finish()


def _our_proof(log: Log, length: int) -> Proof:
    head = log.head
    try:
        upgrade = UpgradeRequest(0, min(length, head.length))
        return log.answer(ProofRequest(head.fork, upgrade=upgrade, manifest=True))
    except (NotHeldError, InvalidRequestError):  # we lack nodes of that length
        return _bare_proof(log, head)


def _bare_proof(log: Log, head: Head) -> Proof:
    """A head proved by its roots alone."""
    upgrade = UpgradeProof(0, head.length, list(head.roots), [], head.signature)
    return Proof(head.fork, upgrade=upgrade, manifest=None if log.compat else log.manifest)
