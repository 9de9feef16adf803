"""An origin whose list of hits is complete when it is looked at.

A client has its answer a moment before the server's thread notes the hit; here reading the list waits
for those that are still being answered.
"""

import threading
import time
from typing import Any

from tests.tools.podcast.origin import Origin
from tests.tools.podcast.request import Hit, Request

PATIENCE_SECONDS = 1.0  # then what still hangs (a stalled body) is left out


class QuietOrigin(Origin):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._active = 0
        self._count_lock = threading.Lock()
        super().__init__(*arguments, **options)

    def begin(self, request: Request) -> Hit:
        with self._count_lock:
            self._active += 1
        return super().begin(request)

    def end(self, hit: Hit) -> None:
        super().end(hit)
        with self._count_lock:
            self._active -= 1

    @property
    def hits(self) -> list[Hit]:
        self._wait_quiet()
        return super().hits

    def clear_hits(self) -> None:
        self._wait_quiet()
        super().clear_hits()

    def _wait_quiet(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._active and time.monotonic() < deadline:
            time.sleep(0.001)
