"""The error a drive can cause by what its writer put into it."""

from p2prss.errors import P2prssError


class DriveError(P2prssError):
    """A drive's content is malformed: its blocks are signed by the writer, yet make no sense.

    No peer is to blame and no retry helps. It is the only error a drive's bytes can cause.
    """

    exit_code = 4
