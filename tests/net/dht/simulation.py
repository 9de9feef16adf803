"""A network of DHT machines in one process, with a virtual clock: latency, loss, churn, and no sockets.

Run by hand for the large case: ``python -m tests.net.dht.simulation --nodes 2000 --minutes 10``.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.messages import Command
from p2prss.net.dht.node import Commit, DhtMachine, Write
from p2prss.net.dht.query import Answer
from p2prss.net.dht.records import LookupReply, PeerRecord, sign_announcement
from p2prss.net.dht.routing import distance
from p2prss.net.dht.running_query import RunningQuery
from p2prss.net.dht.state import SERVER, DhtConfig

PORT = 49737


@dataclass(eq=False)
class SimulatedNode:
    """A machine at an address; ``alive`` false means its datagrams go nowhere."""

    endpoint: Endpoint
    machine: DhtMachine
    delay: float  # seconds its datagrams take
    alive: bool = True
    wakes_at: float = float("inf")


@dataclass
class Lookup:
    """The outcome of one lookup."""

    found: set[bytes] = field(default_factory=set)
    seconds: float = 0.0
    visits: int = 0
    hops: int = 0
    closest: list[Endpoint] = field(default_factory=list)
    finished: bool = False


class Simulation:
    """Nodes with public addresses of their own, all reachable, with one socket each."""

    def __init__(self, seed: int = 1, *, loss: float = 0.01) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.loss = loss
        self.datagrams = self.bytes = 0
        self.nodes: dict[Endpoint, SimulatedNode] = {}
        self.persistent: list[SimulatedNode] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = 0
        self._hosts = 0

    def add_node(self, *, ephemeral: bool = False, endpoint: Endpoint | None = None) -> SimulatedNode:
        """A node that joins through three random members."""
        self._hosts += 1
        a, b, c = self._hosts >> 16, self._hosts >> 8 & 255, self._hosts & 255
        endpoint = endpoint or Endpoint(f"{20 + a}.{b}.{c}.7", PORT)
        known = self.random.sample(self.persistent, min(3, len(self.persistent)))
        config = DhtConfig(
            bootstraps=tuple(node.endpoint for node in known),
            server_port=endpoint.port,
            ephemeral=ephemeral,
            public_endpoint=None if ephemeral else endpoint,
            allow_private=False,
            single_socket=True,
        )
        machine = DhtMachine(config, random=Random(self.random.random()), now=self.now, unix_time=1.7e9)
        node = SimulatedNode(endpoint, machine, self.random.uniform(0.005, 0.075))
        self.nodes[endpoint] = node
        if not ephemeral:
            self.persistent.append(node)
        machine.bootstrap(self.now)
        self._flush(node)
        return node

    def kill(self, node: SimulatedNode) -> None:
        """Gone without a word."""
        node.alive = False
        del self.nodes[node.endpoint]
        if node in self.persistent:
            self.persistent.remove(node)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heappop(self._events)
            action()
        self.now = end

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._counter += 1
        heappush(self._events, (when, self._counter, action))

    def announce(self, node: SimulatedNode, topic: bytes, key_pair: KeyPair) -> list[int]:
        """Announce; the list gets one number when it is done: how many nodes took it."""
        stored: list[int] = []

        def make(answer: Answer, token: bytes) -> Write:
            peer = PeerRecord(key_pair.public_key)
            signed = sign_announcement(
                Command.ANNOUNCE, topic, node_id(answer.endpoint), token, peer, key_pair
            )
            return Write(Command.ANNOUNCE, signed.encode())

        def done(query: RunningQuery, now: float) -> None:
            def committed(commit: Commit, _now: float) -> None:
                stored.append(len(commit.stored))

            node.machine.commit(query.closest, topic, make, now, committed)

        node.machine.start_query(topic, Command.LOOKUP, self.now, on_done=done)
        self._flush(node)
        return stored

    def lookup(self, node: SimulatedNode, topic: bytes) -> Lookup:
        """Look up; the result fills while time passes."""
        result, started_at = Lookup(), self.now

        def answer(answer: Answer) -> None:
            if answer.reply.value:
                result.found |= {peer.public_key for peer in LookupReply.decode(answer.reply.value).peers}

        def done(query: RunningQuery, now: float) -> None:
            result.seconds, result.visits, result.hops = now - started_at, query.visits, query.hops
            result.closest = [one.endpoint for one in query.closest]
            result.finished = True

        node.machine.start_query(topic, Command.LOOKUP, self.now, on_answer=answer, on_done=done)
        self._flush(node)
        return result

    def truly_closest(self, topic: bytes, count: int = 20) -> set[Endpoint]:
        ranked = sorted(self.persistent, key=lambda node: distance(node_id(node.endpoint), topic))
        return {node.endpoint for node in ranked[:count]}

    def _flush(self, node: SimulatedNode) -> None:
        for _, to, data in node.machine.data_to_send():
            self.datagrams += 1
            self.bytes += len(data)
            target = self.nodes.get(to)
            if target is None or self.random.random() < self.loss:
                continue
            delay = node.delay + target.delay
            self.at(self.now + delay, lambda t=target, d=data: self._deliver(t, d, node.endpoint))
        deadline = node.machine.deadline
        if deadline < node.wakes_at:
            node.wakes_at = deadline
            self.at(deadline, lambda: self._wake(node, deadline))

    def _deliver(self, node: SimulatedNode, data: bytes, source: Endpoint) -> None:
        if node.alive:
            node.machine.receive(data, source, SERVER, self.now)
            self._flush(node)

    def _wake(self, node: SimulatedNode, planned: float) -> None:
        if not node.alive or node.wakes_at != planned:
            return
        node.wakes_at = float("inf")
        node.machine.handle_timer(self.now)
        self._flush(node)


def churn(simulation: Simulation, share: float) -> None:
    """Replace a share of the nodes: they leave without a word, as many new ones join."""
    count = int(len(simulation.persistent) * share)
    for node in simulation.random.sample(simulation.persistent, count):
        simulation.kill(node)
    for _ in range(count):
        simulation.add_node()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--churn", type=float, default=0.10, help="share of the nodes replaced per minute")
    parser.add_argument("--lookups", type=int, default=30, help="per minute")
    arguments = parser.parse_args()
    started = time.process_time()
    simulation = Simulation()
    for _ in range(arguments.nodes):
        simulation.add_node()
        simulation.run(0.05)
    simulation.run(60)
    known = sum(len(node.machine.state.table) for node in simulation.persistent) / arguments.nodes
    print(f"{arguments.nodes} nodes up, {known:.0f} contacts each, {time.process_time() - started:.0f} s CPU")

    announced: list[tuple[bytes, bytes]] = []
    clients = [simulation.add_node(ephemeral=True) for _ in range(20)]
    simulation.run(10)
    outcomes: list[tuple[bytes, Lookup, set[Endpoint]]] = []
    stored: list[list[int]] = []
    traffic_from, minute_from = simulation.datagrams, simulation.now
    for minute in range(arguments.minutes):
        for second in range(60):
            if second % 10 == 0:
                churn(simulation, arguments.churn / 6)
            if second % 2 == 0 and len(outcomes) < arguments.lookups * (minute + 1):
                client = simulation.random.choice(clients)
                if minute == 0 or second % 4 == 0:
                    key_pair = KeyPair.from_seed(blake2b(len(announced).to_bytes(4, "big")))
                    topic = simulation.random.randbytes(32)
                    stored.append(simulation.announce(client, topic, key_pair))
                    announced.append((topic, key_pair.public_key))
                old_enough = announced[: max(1, len(announced) - 8)]  # an announce takes seconds
                topic, public_key = simulation.random.choice(old_enough[-100:])
                truth = simulation.truly_closest(topic)
                outcomes.append((public_key, simulation.lookup(client, topic), truth))
            simulation.run(1)
    simulation.run(30)
    finished = [one for one in outcomes if one[1].finished]
    hits = sum(public_key in lookup.found for public_key, lookup, _ in finished)
    overlap = sum(len(truth & set(lookup.closest)) for _, lookup, truth in finished) / len(finished)
    seconds = [lookup.seconds for _, lookup, _ in finished]
    visits = [float(lookup.visits) for _, lookup, _ in finished]
    hops = [float(lookup.hops) for _, lookup, _ in finished]
    elapsed = simulation.now - minute_from
    per_node = (simulation.datagrams - traffic_from) / elapsed / len(simulation.persistent)
    kept = [one[0] for one in stored if one]
    print(
        f"announces: {len(kept)}/{len(stored)} done, kept by {sum(kept) / max(1, len(kept)):.1f} nodes each"
    )
    print(f"lookups: {len(finished)}/{len(outcomes)} finished, {hits / len(finished):.1%} found the record,")
    print(f"  with {overlap:.1f} of the true 20 closest")
    for name, values in (("seconds", seconds), ("visits", visits), ("hops", hops)):
        spread = " ".join(f"{percentile(values, share):.2f}" for share in (0.5, 0.9, 0.99))
        print(f"  {name}: median/90 %/99 %: {spread}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{per_node:.2f} datagrams per node and second; {time.process_time() - started:.0f} s CPU")
    print(f"{memory:.0f} MiB")


if __name__ == "__main__":
    main()
