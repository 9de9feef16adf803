"""Peers that lie to a downloader: they are dropped, and the honest one beside them brings everything."""

import pytest
import trio
from trio.testing import MockClock

from p2prss.units import MIB
from tests.robust.conftest import Scene, let_time_fly, memory_below, until
from tests.robust.lies import answers, channels, floods, frames, handshakes
from tests.robust.lies.lie import lies_of

MEMORY = 64 * MIB  # what one liar may cost, the log included

LIES = lies_of(answers, channels, floods, frames, handshakes)


@pytest.mark.parametrize("name", LIES)
async def test_a_liar_is_dropped_and_all_comes_from_the_honest(
    name: str, scene: Scene, mock_clock: MockClock
) -> None:
    script, reason, waits = LIES[name]
    if waits:
        let_time_fly(mock_clock)
    else:
        mock_clock.rate = 1.0
    with memory_below(MEMORY), trio.fail_after(300):
        liar = scene.let_in(scene.reader, script, initiator=len(name) % 2 == 0)
        await liar.lied.wait()
        if reason is not None:
            await until(lambda: scene.reader.drops, 120)
        scene.connect_honest()
        await scene.download()
    assert scene.reader.drops == ({reason: 1} if reason else {})
    assert not scene.writer.drops
    assert "honest" not in scene.ended
