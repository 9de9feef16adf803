"""What a client remembers of where it reached peers."""

from p2prss.crypto.keys import PublicKey
from p2prss.net.connect.search import MAX_REMEMBERED, RelayMemory
from p2prss.net.dht.endpoint import Endpoint

RELAYS = tuple(Endpoint("1.2.3.4", port) for port in range(1, 6))


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


def test_the_relays_of_the_last_peers_are_remembered() -> None:
    memory = RelayMemory()
    assert memory.get(key(0)) == ()
    for number in range(MAX_REMEMBERED):
        memory.add(key(number), [RELAYS[0], *RELAYS])
    assert memory.get(key(0)) == RELAYS[:3]
    memory.add(key(0), RELAYS[3:])
    memory.add(key(MAX_REMEMBERED), RELAYS)
    assert len(memory) == MAX_REMEMBERED
    assert memory.get(key(0)) == RELAYS[3:]
    assert memory.get(key(1)) == ()  # reached longest ago
