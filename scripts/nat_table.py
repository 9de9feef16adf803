"""Print who reaches whom through which NATs: a table for each pair of implementations.

    python scripts/nat_table.py [--kinds open,firewall,steady,random] [--pairs js-js,p2prss-js,...]
                                [--public p2prss|js] [--relay] [--delay 0.01] [--jitter 0] [--loss 0]

Rows are clients, columns servers. A cell is the seconds until the connection was there and how it came about,
or the reason why there is none. Every cell has fresh peers, in network namespaces on a simulated internet.
"""

import argparse
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.net.nat.bed import KINDS, Bed, PeerError, open_bed

PAIRS = ("js-js", "p2prss-p2prss", "p2prss-js", "js-p2prss")


async def try_pair(bed: Bed, pair: str, client_kind: str, server_kind: str, relay: str | None = None) -> str:
    """One cell of the table. Args: relay: the key of a blind relay that the client proposes."""
    client_program, server_program = pair.split("-")
    try:
        async with (
            bed.peer(server_program, f"server-{server_kind}") as server,
            bed.peer(client_program, f"client-{client_kind}", relay=relay) as client,
        ):
            listening = await server.call("listen")
            done = await client.call("connect", key=listening["key"])
    except PeerError as error:
        return str(error).lower().replace("_", " ")[:22]
    way = done.get("path") or next((name for name, n in done.get("punches", {}).items() if n), "")
    return f"{done['seconds']:.2f} {way}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kinds", default="open,firewall,steady,random,double")
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--public", default="p2prss")
    parser.add_argument("--relay", action="store_true", help="clients propose a blind relay")
    for name, default in (("--delay", 0.01), ("--jitter", 0.0), ("--loss", 0.0)):
        parser.add_argument(name, type=float, default=default)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kinds {unknown}; there are {', '.join(KINDS)}")
    async with (
        open_bed(kinds, delay=options.delay, jitter=options.jitter, loss=options.loss) as bed,
        bed.public_dht(options.public),
        bed.blind_relay() as key,
    ):
        relay = key if options.relay else None
        for pair in options.pairs.split(","):
            print(f"\n{pair.replace('-', ' dials ')}: client below, server beside")
            print(f"{'':14}" + "".join(f"{kind:24}" for kind in kinds))
            for client_kind in kinds:
                print(f"{client_kind:14}", end="", flush=True)
                for server_kind in kinds:
                    print(
                        f"{await try_pair(bed, pair, client_kind, server_kind, relay):24}", end="", flush=True
                    )
                print(flush=True)
        print(f"\npackets: {await bed.statistics()}")


if __name__ == "__main__":
    trio.run(main)
