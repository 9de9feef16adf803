"""IPv4 packets that carry UDP: read the addresses, write others in, count the hops."""

import struct
from typing import Final, NamedTuple

IP_HEADER: Final = 20  # bytes, without options
UDP_PROTOCOL: Final = 17


class Address(NamedTuple):
    """A host and a UDP port."""

    host: str
    port: int


class Packet(NamedTuple):
    """One UDP packet, without its headers."""

    source: Address
    destination: Address
    ttl: int
    payload: bytes


def read_packet(data: bytes) -> Packet | None:
    """What a host sends; None unless it is a whole UDP packet over IPv4."""
    if len(data) < IP_HEADER + 8 or data[0] >> 4 != 4 or data[9] != UDP_PROTOCOL:
        return None
    fragment = struct.unpack_from("!H", data, 6)[0]
    if fragment & 0x3FFF:  # more fragments, or an offset
        return None
    start = 4 * (data[0] & 15)
    source_port, destination_port, length = struct.unpack_from("!HHH", data, start)
    source, destination = (".".join(map(str, data[at : at + 4])) for at in (12, 16))
    payload = data[start + 8 : start + length]
    return Packet(Address(source, source_port), Address(destination, destination_port), data[8], payload)


def write_packet(packet: Packet) -> bytes:
    """The bytes for a host; the UDP checksum is left out, as IPv4 allows."""
    length = 8 + len(packet.payload)
    hosts = bytes(
        int(octet) for host in (packet.source, packet.destination) for octet in host.host.split(".")
    )
    head = struct.pack("!BBHHHBBH", 0x45, 0, IP_HEADER + length, 0, 0x4000, packet.ttl, UDP_PROTOCOL, 0)
    total = sum(struct.unpack("!10H", head + hosts))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", total ^ 0xFFFF)
    ports = struct.pack("!HHHH", packet.source.port, packet.destination.port, length, 0)
    return head + hosts + ports + packet.payload
