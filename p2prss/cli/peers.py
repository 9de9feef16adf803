"""Who is connected: the peers of the node that runs on this home."""

from typing import TYPE_CHECKING

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import OptionalFeed
from p2prss.cli.output import format_bytes

if TYPE_CHECKING:
    from p2prss.node.control import HeldBlocks


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(peers)


def peers(ctx: typer.Context, feed: OptionalFeed = None) -> None:
    """List the peers of the node that runs on this home, a line for each and feed.

    Sizes are what went to and fro for that feed since the peer came; HAS is how much of the files it says
    it has, as far as we had to ask. Ends with exit code 1 when no node runs.

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
        if status.links_dropped:
            dropped = ", ".join(f"{count} for {reason}" for reason, count in status.links_dropped.items())
            context.output.talk(f"links ended because of what the peer did: {dropped}", level=1)

    context.run(main)


def _share(held: "HeldBlocks") -> str:
    """A peer tells what it has to those who ask for it; of others nothing is known."""
    return f"{100 * held.blocks // held.length} %" if held.blocks else "?"
