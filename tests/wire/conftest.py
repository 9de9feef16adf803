"""What the tests of the wire share: the recorded vectors and two ends of one connection."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.wire_ends import Ends


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
    return data


@pytest.fixture
def ends() -> Ends:
    """Two ends that have shaken hands."""
    both = Ends()
    both.pump()
    return both
