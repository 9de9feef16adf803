"""Who is connected: the peers of the node that runs on this home."""

from typing import TYPE_CHECKING

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import OptionalFeed
from p2prss.cli.output import format_bytes

if TYPE_CHECKING:
    from p2prss.node.control import DhtStatus, HeldBlocks


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(peers)


def peers(ctx: typer.Context, feed: OptionalFeed = None) -> None:
    """List the peers of the node that runs on this home, a line for each and feed.

    WAY is tcp for an address that was given or found on the local network, udx for a peer that was found by
    the feed's key, with how it is reached. Sizes are what went to and fro for that feed since the peer came;
    HAS is how much of the files it says it has, as far as we had to ask. Ends with exit code 1 when no node
    runs.

    Example: `p2prss peers my-show`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.control import list_peers
        from p2prss.node.home_paths import HomePaths

        status, found = await list_peers(HomePaths.find(context.home_option), feed)
        for peer in found:
            context.output.data(peer)
        context.output.table(
            ("NAME", "ADDRESS", "ROLE", "WAY", "RECEIVED", "SENT", "HAS"),
            [
                (
                    peer.slug or peer.key,
                    peer.address,
                    peer.role,
                    "tcp" if peer.transport == "tcp" else f"{peer.transport}, {peer.path}",
                    format_bytes(peer.bytes_received),
                    format_bytes(peer.bytes_sent),
                    _share(peer.has_files),
                )
                for peer in found
            ],
        )
        if not found:
            context.output.talk("no peer is connected")
        if status.dht is not None:
            context.output.talk(_dht_words(status.dht), level=1 if found else 0)
        if status.links_dropped:
            dropped = ", ".join(f"{count} for {reason}" for reason, count in status.links_dropped.items())
            context.output.talk(f"links ended because of what the peer did: {dropped}", level=1)

    context.run(main)


def _dht_words(dht: "DhtStatus") -> str:
    """What the node knows of the DHT, in a line."""
    if not dht.online:
        return "DHT: no node answers"
    state = "can be found by key" if dht.reachable_by_key else "cannot be found by key yet"
    failed = sum(dht.failures.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in dht.failures.items())
    dials = f"; {dht.dials} dials, {failed} in vain ({reasons})" if failed else ""
    return f"DHT: {state}; {dht.announced} of {dht.topics} feeds announced, {dht.peers} peers known{dials}"


def _share(held: "HeldBlocks") -> str:
    """A peer tells what it has to those who ask for it; of others nothing is known."""
    return f"{100 * held.blocks // held.length} %" if held.blocks else "?"
