"""A host name in multicast DNS, through zeroconf, which has a thread with an event loop of its own."""

import contextlib
from collections.abc import Sequence
from typing import Final

import zeroconf

from p2prss.errors import NetworkError

SERVICE_TYPE: Final = "_http._tcp.local."
HOST_SECONDS: Final = 120  # lifetime of our addresses in caches of others


class Publication:
    """``label``.local means these addresses until it is closed. Making and closing one wait for a thread."""

    def __init__(self, label: str, port: int, addresses: Sequence[str]) -> None:
        """Raises: NetworkError when the system does not let us, or somebody else has the name."""
        info = zeroconf.ServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            port=port,
            server=f"{label}.local.",
            host_ttl=HOST_SECONDS,
            parsed_addresses=list(addresses),
        )
        four = [one for one in addresses if ":" not in one]
        try:
            self._zeroconf = zeroconf.Zeroconf(
                interfaces=four or zeroconf.InterfaceChoice.Default,
                ip_version=zeroconf.IPVersion.V4Only if four else zeroconf.IPVersion.V6Only,
            )
        except (OSError, RuntimeError, zeroconf.Error) as error:
            raise NetworkError(f"no multicast on the local network: {error}") from error
        try:
            self._zeroconf.register_service(info)
        except (OSError, RuntimeError, zeroconf.Error) as error:
            self.close()
            raise NetworkError(f"the name {label}.local cannot be had: {error}") from error

    def close(self) -> None:
        """Say goodbye and end."""
        with contextlib.suppress(zeroconf.Error, TimeoutError, RuntimeError, OSError):
            self._zeroconf.close()
