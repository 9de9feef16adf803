"""Where a node keeps its data: one folder, the *home*."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = "P2PRSS_HOME"


@dataclass(frozen=True, slots=True)
class HomePaths:
    """The places in a home folder; nothing is made by asking for them."""

    path: Path

    @classmethod
    def find(cls, option: Path | None) -> "HomePaths":
        """The home to use: the option, else ``P2PRSS_HOME``, else the platform's data folder."""
        if option is None and (text := os.environ.get(ENVIRONMENT)):
            option = Path(text)
        if option is None:
            from platformdirs import user_data_path

            option = user_data_path("p2prss", appauthor=False)
        return cls(option.expanduser().absolute())

    @property
    def exists(self) -> bool:
        """Whether a node has ever run here."""
        return self.database.is_file()

    @property
    def database(self) -> Path:
        """Everything but block bytes."""
        return self.path / "store.sqlite"

    @property
    def cores(self) -> Path:
        """A folder for each log, with its block bytes."""
        return self.path / "cores"

    @property
    def keys(self) -> Path:
        """Secrets, readable by their owner only."""
        return self.path / "keys"

    @property
    def incoming(self) -> Path:
        """Downloads that are not complete yet."""
        return self.path / "incoming"

    @property
    def control(self) -> Path:
        """The socket of the node that runs here, if one does."""
        return self.path / "control.sock"

    @property
    def lan_secret(self) -> Path:
        """What the addresses for phones on the local network are made from."""
        return self.keys / "lan"

    @property
    def page_token(self) -> Path:
        """What a browser or a program has to show before it may change anything over HTTP."""
        return self.path / "page-token"

    @property
    def lock(self) -> Path:
        """Held by the one process that may write."""
        return self.path / "lock"
