"""The routing table: whom a node knows, in rows by how many leading bits an id shares with its own.

A row holds 20 contacts, so the table knows its own neighbourhood well and the rest of the network coarsely.
Ids are hashes of addresses and cannot be chosen, but one host has 65,535 ports: no host and no /24 network
may fill a row. Private networks (a test net, a classroom) are one host or a few: there the caps do not apply.

Source: kademlia-routing-table index.js, dht-rpc 6.27.0 index.js; spec/07-net.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from p2prss.net.dht.endpoint import Endpoint, is_private, node_id

K: Final = 20  # contacts in a row, and results of a query
ROWS: Final = 256  # bits of an id
MAX_PER_HOST: Final = 5  # of a row or a query's result, on public hosts
MAX_PER_NETWORK: Final = 10  # the same for a /24


@dataclass(slots=True)
class Contact:
    """A node that told its id itself; times are clock readings in seconds."""

    endpoint: Endpoint
    id: bytes
    added_at: float
    heard_at: float  # its last datagram
    pinged_at: float  # our last wish to hear from it, or its last datagram
    sampled_at: float | None = None  # when it last told us our address
    down_hints: int = 0

    @classmethod
    def new(cls, endpoint: Endpoint, now: float) -> "Contact":
        return cls(endpoint, node_id(endpoint), now, now, now)


def distance(id_or_target: bytes, target: bytes) -> int:
    """How far two ids are apart: their XOR as a number."""
    return int.from_bytes(id_or_target, "big") ^ int.from_bytes(target, "big")


class Crowding:
    """Counts public hosts and /24 networks, to keep one party from being all there is.

    Args: per_host, per_network: how many of each there may be.
    """

    __slots__ = ("_hosts", "_networks", "_per_host", "_per_network")

    def __init__(
        self,
        hosts: Iterable[str] = (),
        *,
        per_host: int = MAX_PER_HOST,
        per_network: int = MAX_PER_NETWORK,
    ) -> None:
        self._per_host, self._per_network = per_host, per_network
        self._hosts: dict[str, int] = {}
        self._networks: dict[str, int] = {}
        for host in hosts:
            self.add(host)

    def has_room(self, host: str) -> bool:
        if is_private(host):
            return True
        network = host.rpartition(".")[0]
        return (
            self._hosts.get(host, 0) < self._per_host and self._networks.get(network, 0) < self._per_network
        )

    def add(self, host: str) -> None:
        if not is_private(host):
            network = host.rpartition(".")[0]
            self._hosts[host] = self._hosts.get(host, 0) + 1
            self._networks[network] = self._networks.get(network, 0) + 1


class RoutingTable:
    """Contacts by id. Never more than 20 in a row, never the own id."""

    def __init__(self, own_id: bytes) -> None:
        self.own_id = own_id
        self._own = int.from_bytes(own_id, "big")
        self._contacts: dict[bytes, Contact] = {}
        self._rows: dict[int, list[Contact]] = {}

    def __len__(self) -> int:
        return len(self._contacts)

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._contacts.values())

    def get(self, contact_id: bytes) -> Contact | None:
        return self._contacts.get(contact_id)

    def row_of(self, contact_id: bytes) -> int:
        """Leading bits an id shares with the own one; 256 for the own id."""
        return ROWS - (self._own ^ int.from_bytes(contact_id, "big")).bit_length()

    def row(self, contact_id: bytes) -> list[Contact]:
        """The contacts of the row an id belongs to."""
        return self._rows.get(self.row_of(contact_id), [])

    def add(self, contact: Contact) -> bool:
        """Keep a contact if its row has room for it."""
        number = self.row_of(contact.id)
        if number == ROWS or contact.id in self._contacts:
            return False
        row = self._rows.setdefault(number, [])
        if len(row) >= K or not self.is_welcome(contact, row):
            return False
        row.append(contact)
        self._contacts[contact.id] = contact
        return True

    @staticmethod
    def is_welcome(contact: Contact, row: list[Contact]) -> bool:
        """Whether a contact's host and network are not yet many among these."""
        return Crowding(one.endpoint.host for one in row).has_room(contact.endpoint.host)

    def remove(self, contact_id: bytes) -> Contact | None:
        contact = self._contacts.pop(contact_id, None)
        if contact is not None:
            row = self._rows[self.row_of(contact_id)]
            row.remove(contact)
        return contact

    def closest(self, target: bytes, count: int = K) -> list[Contact]:
        """Up to ``count`` contacts nearest to ``target``, in true XOR order."""
        number = int.from_bytes(target, "big")
        shared = min(ROWS - (self._own ^ number).bit_length(), ROWS - 1)
        found = self._sorted(self._rows.get(shared, ()), number)
        if len(found) < count:  # all of these differ from the target in the same bit, the next one
            deeper = [one for row, members in self._rows.items() if row > shared for one in members]
            found += self._sorted(deeper, number)
        for row in range(shared - 1, -1, -1):
            if len(found) >= count:
                break
            found += self._sorted(self._rows.get(row, ()), number)
        return found[:count]

    @staticmethod
    def _sorted(contacts: Iterable[Contact], target: int) -> list[Contact]:
        return sorted(contacts, key=lambda one: int.from_bytes(one.id, "big") ^ target)

    def oldest(self, count: int) -> list[Contact]:
        """Contacts we have had nothing to do with for longest."""
        return sorted(self._contacts.values(), key=lambda one: one.pinged_at)[:count]

    def newest(self, count: int) -> list[Contact]:
        """Contacts heard from most recently."""
        return sorted(self._contacts.values(), key=lambda one: -one.heard_at)[:count]

    def moved(self, own_id: bytes) -> "RoutingTable":
        """The same contacts around another own id; a row that gets too full loses its latecomers."""
        table = RoutingTable(own_id)
        for contact in self._contacts.values():
            table.add(contact)
        return table
