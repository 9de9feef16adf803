"""Units, so that a limit reads as what it is: ``8 * MIB``."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

KB: Final = 1000
MB: Final = 1000 * KB
GB: Final = 1000 * MB

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer a JavaScript peer can hold exactly; larger ones are refused on the wire."""
