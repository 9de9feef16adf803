"""UPnP gateways, by way of the optional library ``miniupnpc``: ``pip install p2prss[upnp]``.

Everything here blocks, for seconds: run it in a thread. The library asks by multicast who is a gateway and
reads what the devices answer; so it is imported, and asked, only when somebody wants a port mapped.
"""

import importlib
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from p2prss.errors import NetworkError
from p2prss.net.nat_pmp import LEASE_SECONDS, PortMapping, Transport

DISCOVER_MILLISECONDS: Final = 2000  # that devices are given to answer
_DESCRIPTION: Final = "p2prss"


def is_installed() -> bool:
    """Whether the library is there."""
    try:
        importlib.import_module("miniupnpc")
    except ImportError:
        return False
    return True


class UpnpGateway:
    """The gateway that was found. Raises: NetworkError when there is none, or the library is missing."""

    def __init__(self) -> None:
        if not is_installed():
            raise NetworkError("UPnP needs p2prss[upnp] to be installed")
        self._client: Any = importlib.import_module("miniupnpc").UPnP()
        self._client.discoverdelay = DISCOVER_MILLISECONDS
        try:
            self._client.discover()
            self._client.selectigd()
        except Exception as error:
            raise NetworkError(f"no UPnP gateway: {error}") from error

    def add(self, transport: Transport, port: int) -> PortMapping:
        """Have the same port forwarded, or forwarded longer. Raises: NetworkError."""
        words = (port, transport.name, self._client.lanaddr, port, _DESCRIPTION, "")
        try:
            try:
                done = self._client.addportmapping(*words, LEASE_SECONDS)
            except TypeError:  # a version that knows no leases
                done = self._client.addportmapping(*words)
            host = str(IPv4Address(self._client.externalipaddress()))
        except AddressValueError as error:
            raise NetworkError("the UPnP gateway names no outside address") from error
        except Exception as error:
            raise NetworkError(f"the UPnP gateway refuses: {error}") from error
        if done is False:
            raise NetworkError("the UPnP gateway refuses")
        return PortMapping(transport, port, host, port, LEASE_SECONDS)

    def remove(self, mapping: PortMapping) -> None:
        """Give the port back. Raises: NetworkError."""
        try:
            self._client.deleteportmapping(mapping.port, mapping.transport.name)
        except Exception as error:
            raise NetworkError(f"the UPnP gateway refuses: {error}") from error
