"""HyperDHT nodes of the JavaScript reference, as a trio object; see ``peer.js`` beside this file."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

_HERE: Final = Path(__file__).parent
_STOP_SECONDS: Final = 5


class JsDht:
    """One process; ``await js.call("lookup", node=0, topic=...)`` is one command of ``peer.js``."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._last_id = 0

    async def call(self, command: str, **members: Any) -> Any:
        self._last_id += 1
        number = self._last_id
        answers, answer = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = answers
        line = json.dumps({"id": number, "do": command, **members}) + "\n"
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode())
        with trio.fail_after(20):
            reply = await answer.receive()
        assert "error" not in reply, reply["error"]
        return reply["ok"]

    async def read(self) -> None:
        assert self._process.stdout is not None
        pending = bytearray()
        async for chunk in self._process.stdout:
            pending += chunk
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                reply = json.loads(line)
                self._waiting.pop(reply["id"]).send_nowait(reply)
        for answers in self._waiting.values():
            answers.close()  # it ended: whoever waits hears so


@asynccontextmanager
async def open_js_dht() -> AsyncIterator[JsDht]:
    node = shutil.which("node")
    assert node is not None, "node is not installed"
    process = await trio.lowlevel.open_process(
        [node, str(_HERE / "peer.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    js = JsDht(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(js.read)
            yield js
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.aclose()
            with trio.move_on_after(_STOP_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await process.stdout.aclose()
