"""A neighbour that announces nonsense: ``python lan_flood.py KIND COUNT [DISCOVERY_KEY]`` in a namespace.

KIND is ``strangers`` (well formed, but of feeds that nobody has), ``bogus`` (right tags, addresses that no
neighbour has), ``nowhere`` (right tags, local addresses where nobody is) or ``garbage`` (huge and broken).
"""

import socket
import sys
from collections.abc import Iterator
from random import Random
from typing import Final

from zeroconf import ServiceInfo
from zeroconf._dns import DNSAddress, DNSPointer, DNSRecord, DNSService, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_A, _TYPE_PTR, _TYPE_SRV, _TYPE_TXT

from p2prss.crypto.keys import DiscoveryKey, PublicKey
from p2prss.net.lan.announcement import SERVICE_TYPE, announcements

GROUP: Final = ("224.0.0.251", 5353)
OWN: Final = "10.77.0.3"
BOGUS: Final = ("8.8.8.8", "127.0.0.1", "224.0.0.1", "10.77.0.255", "192.168.1.1", "0.0.0.0")
FOREVER: Final = 2**31 - 1  # seconds


def services(kind: str, count: int, feed: DiscoveryKey) -> Iterator[tuple[str, bytes, int, list[str]]]:
    """Name, TXT record, port and addresses of each."""
    random = Random(count)
    for number in range(count):
        key = PublicKey(random.randbytes(32))
        (made,) = announcements(key, [feed], 1 + random.randrange(65535))
        text = ServiceInfo(SERVICE_TYPE, made.name, properties=made.text()).text
        if kind == "garbage":
            name = made.name if number % 2 else f"{'x' * 60}{number % 10}.{SERVICE_TYPE}"
            yield name, random.randbytes(random.randrange(8000)), 5000, [*BOGUS]
        elif kind == "bogus":
            yield made.name, text, 5000, [*BOGUS]
        else:
            yield made.name, text, 5000, [f"10.77.0.{100 + number % 100}", OWN]


def packet(name: str, text: bytes, port: int, addresses: list[str]) -> bytes:
    """An unsolicited answer that announces one service."""
    server = f"h{abs(hash(name))}.local."
    out = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    records: list[DNSRecord] = [
        DNSPointer(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN, FOREVER, name),
        DNSService(name, _TYPE_SRV, _CLASS_IN, FOREVER, 0, 0, port, server),
        DNSText(name, _TYPE_TXT, _CLASS_IN, FOREVER, text),
        *(DNSAddress(server, _TYPE_A, _CLASS_IN, FOREVER, socket.inet_aton(one)) for one in addresses),
    ]
    for record in records:
        out.add_answer_at_time(record, 0)
    return out.packets()[0]


def main() -> None:
    kind, count, *rest = sys.argv[1:]
    feed = DiscoveryKey(bytes.fromhex(rest[0]) if rest else bytes(32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(OWN))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sender.bind((OWN, GROUP[1]))
        for one in services(kind, int(count), feed):
            sender.sendto(packet(*one), GROUP)


if __name__ == "__main__":
    main()
