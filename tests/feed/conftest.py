from pathlib import Path

import pytest

from tests.fakes.studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A mirror of its own, with nothing in it yet."""
    return Studio(tmp_path / "scratch")
