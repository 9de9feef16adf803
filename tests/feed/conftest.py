"""make_podcast.py is a script; here it is imported as a module."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
