#!/usr/bin/env python3
"""UDX beside the JavaScript reference: each pair in two processes, round after round in turn.

    scripts/bench_udx.py [--mib 64] [--rounds 5] [--lossy-mib 8] [--loss 1,5] [--only clean|lossy]

Clean pairs talk over loopback, lossy ones through a relay with 20 ms each way, in a process of its own. A
run is timed from the first write until the receiver has the last byte; content is compared by hash. Prints
one line for each pair: median, best and worst MB/s, and the ratio to js->js of the same rounds.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from p2prss.net.udx.endpoint import UdxEndpoint  # noqa: E402  (runs without an installation)
from p2prss.net.udx.trio_stream import UdxTrioStream  # noqa: E402
from tests.net.udx.js_udx import JsUdx, LossyRelay  # noqa: E402

CHUNK = 256 * 1024
PATTERN = bytes((i * 31 + (i >> 8)) & 255 for i in range(CHUNK + 251))
PAIRS = [("js", "js"), ("p2prss", "js"), ("js", "p2prss"), ("p2prss", "p2prss")]


async def serve_peer() -> None:
    """Be such a peer: JSON lines in, JSON lines out."""
    streams: dict[int, UdxTrioStream] = {}

    async def run(request: dict[str, Any]) -> dict[str, Any]:
        what = request["do"]
        if what == "stream":
            stream = endpoint.create_stream()
            streams[stream.stream_id] = stream
            return {"stream": stream.stream_id, "port": socket.address[1]}
        stream = streams[request["stream"]]
        if what == "connect":
            stream.connect(socket, request["remote"], ("127.0.0.1", request["port"]))
            return {}
        digest = hashlib.sha256()
        count = 0
        if what == "pump":
            started = time.monotonic()
            while count < request["bytes"]:
                shift = count % 251
                chunk = PATTERN[shift : shift + min(CHUNK, request["bytes"] - count)]
                digest.update(chunk)
                count += len(chunk)
                await stream.send_all(chunk)
            return {
                "sha256": digest.hexdigest(),
                "started": started,
                "retransmits": stream.machine.sender.resent_count,
            }
        if what == "wait":
            while count < request["bytes"]:
                chunk = await stream.receive_some(CHUNK)
                digest.update(chunk)
                count += len(chunk)
            return {"sha256": digest.hexdigest(), "bytes": count, "at": time.monotonic()}
        stream.destroy()
        return {}

    async def answer(request: dict[str, Any]) -> None:
        line = json.dumps({"id": request["id"], **await run(request)})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async with UdxEndpoint.open() as endpoint, trio.open_nursery() as nursery:
        socket = endpoint.bind("127.0.0.1", 0)
        held = b""
        async with trio.lowlevel.FdStream(0) as stdin:
            async for chunk in stdin:
                *lines, held = (held + chunk).split(b"\n")
                for line in lines:
                    nursery.start_soon(answer, json.loads(line))


def serve_relay(seed: int, loss: float) -> None:
    """Be the bad path: prints its ports, then reads the two addresses behind them."""
    relay = LossyRelay(seed=seed, loss=loss, delay=0.02)
    print(json.dumps(relay.ports), flush=True)
    ports = json.loads(sys.stdin.readline())
    relay.targets = [("127.0.0.1", port) for port in ports]
    import select

    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        select.select(relay.sockets, [], [], min(relay.step(), 1.0))


class Figures:
    """MB/s of each pair."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
        self.resent: dict[tuple[str, str], list[int]] = {pair: [] for pair in PAIRS}

    def print(self, title: str) -> None:
        base = statistics.median(self.runs["js", "js"])
        print(title)
        for (sender, receiver), runs in self.runs.items():
            median = statistics.median(runs)
            resent = statistics.median(self.resent[sender, receiver])
            print(
                f"  {sender:>6} -> {receiver:<6} median {median:7.1f} MB/s, best {max(runs):7.1f}, "
                f"worst {min(runs):7.1f}, {median / base:5.2f} x js->js, resent {resent:.0f}"
            )
        sys.stdout.flush()


async def transfer(
    sender: JsUdx, receiver: JsUdx, size: int, relay: tuple[int, float] | None
) -> tuple[float, int]:
    """One run; MB/s and packets sent again."""
    there, here = await receiver.do("stream"), await sender.do("stream")
    ports = [here["port"], there["port"]]
    process = None
    if relay is not None:
        process = await trio.lowlevel.open_process(
            [sys.executable, __file__, "--relay", str(relay[0]), str(relay[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        near, far = json.loads(await process.stdout.receive_some(1000))
        await process.stdin.send_all(json.dumps(ports).encode() + b"\n")
        ports = [far, near]
    try:
        await receiver.do("connect", stream=there["stream"], remote=here["stream"], port=ports[0])
        await sender.do("connect", stream=here["stream"], remote=there["stream"], port=ports[1])
        results: dict[str, dict[str, Any]] = {}

        async def run(name: str, peer: JsUdx, what: str, stream: int) -> None:
            results[name] = await peer.do(what, stream=stream, bytes=size, **{"for": "bytes"})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "received", receiver, "wait", there["stream"])
            nursery.start_soon(run, "sent", sender, "pump", here["stream"])
        assert results["sent"]["sha256"] == results["received"]["sha256"], "content differs"
        await sender.do("destroy", stream=here["stream"])
        seconds = results["received"]["at"] - results["sent"]["started"]
        return size / seconds / 1e6, results["sent"]["retransmits"]
    finally:
        if process is not None:
            process.kill()
            await process.wait()


async def bench(rounds: int, size: int, loss: float | None) -> Figures:
    """All pairs, ``rounds`` times in turn."""
    figures = Figures()
    async with AsyncExitStack() as stack:
        peers = {
            "js": [await stack.enter_async_context(JsUdx.open()) for _ in range(2)],
            "p2prss": [
                await stack.enter_async_context(JsUdx.open(sys.executable, __file__, "--peer"))
                for _ in range(2)
            ],
        }
        for turn in range(rounds):
            for pair in PAIRS if turn % 2 == 0 else PAIRS[::-1]:
                sender, receiver = peers[pair[0]][0], peers[pair[1]][1]
                relay = None if loss is None else (turn + 1, loss)
                with trio.fail_after(120):
                    speed, resent = await transfer(sender, receiver, size, relay)
                figures.runs[pair].append(speed)
                figures.resent[pair].append(resent)
    return figures


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        trio.run(serve_peer)
        return
    if sys.argv[1:2] == ["--relay"]:
        serve_relay(int(sys.argv[2]), float(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lossy-mib", type=int, default=8)
    parser.add_argument("--loss", default="0,1,5", help="per cent, several with commas")
    parser.add_argument("--only", choices=["clean", "lossy"])
    options = parser.parse_args()
    if options.only != "lossy":
        figures = trio.run(bench, options.rounds, options.mib << 20, None)
        figures.print(f"clean loopback, {options.mib} MiB, {options.rounds} rounds")
    if options.only != "clean":
        for percent in options.loss.split(","):
            figures = trio.run(bench, options.rounds, options.lossy_mib << 20, float(percent) / 100)
            figures.print(
                f"{percent} % loss, round trip 40 ms, {options.lossy_mib} MiB, {options.rounds} rounds"
            )


if __name__ == "__main__":
    main()
