"""What every command gets: the home to work on, and how to talk."""

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import typer

from p2prss.cli.output import Output

SHUTDOWN_SECONDS = 8.0  # for a clean end after Ctrl-C or SIGTERM, before we leave anyway


@dataclass
class Context:
    """The global options of one run."""

    home_option: Path | None
    output: Output

    @classmethod
    def of(cls, ctx: typer.Context) -> "Context":
        """The context that the global options made."""
        return cast("Context", ctx.obj)

    async def confirm(self, question: str) -> bool:
        """Ask a person; no, where there is none to ask."""
        import trio

        if self.output.json or not sys.stdin.isatty():
            return False
        self.output.close()
        return await trio.to_thread.run_sync(typer.confirm, question, abandon_on_cancel=True)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run an async command until it ends, Ctrl-C or SIGTERM; the last two leave with 130 and 143."""
        import trio

        stopped_by: list[int] = []
        ended = threading.Event()

        def leave(number: int) -> NoReturn:
            """Go at once, asked twice or too late; what is stored stands this at any instant."""
            self.output.close()
            os._exit(128 + number)

        def leave_late(number: int) -> None:
            if not ended.wait(SHUTDOWN_SECONDS):  # a disk or a name server holds one of our threads
                leave(number)

        async def watch(scope: trio.CancelScope) -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    if stopped_by:
                        leave(number)
                    stopped_by.append(number)
                    threading.Thread(target=leave_late, args=[number], daemon=True).start()
                    scope.cancel()

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(watch, scope)
                with scope:
                    await main()
                nursery.cancel_scope.cancel()

        try:
            trio.run(run)
        finally:
            ended.set()
            self.output.close()
        if stopped_by:
            raise SystemExit(128 + stopped_by[0])
