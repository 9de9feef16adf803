"""What the tests of the wire share: the recorded vectors and two ends of one connection."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.wire_ends import Ends


@pytest.fixture(scope="session")
def wire_vectors(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return vectors("wire")


@pytest.fixture
def ends() -> Ends:
    """Two ends that have shaken hands."""
    both = Ends()
    both.pump()
    return both
