"""Multicast DNS through zeroconf, which has a thread with an event loop of its own.

This module is the border: what crosses it are plain values. Everything a stranger can make us hold is
bounded: zeroconf keeps at most 10,000 records of at most 9 kB; we look at ``LOOKS_PER_SECOND`` services,
ask for the missing records of ``MAX_ASKED`` at a time, and keep nothing of our own.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Final, NamedTuple

import zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from p2prss.errors import DecodeError, NetworkError
from p2prss.net.lan.announcement import MAX_TEXT_BYTES, SERVICE_TYPE, Announcement, decode_name
from p2prss.net.lan.interfaces import MAX_LOOKED_AT, Interfaces

LOOKS_PER_SECOND: Final = 100  # services looked at; more are looked at when they are announced again
MAX_ASKED: Final = 16  # services whose missing records are asked for at a time
ANSWER_SECONDS: Final = 3.0  # to wait for missing records
HOST_SECONDS: Final = 120  # lifetime of our addresses in caches of others
SERVICE_SECONDS: Final = 1200  # lifetime of our names and texts in caches of others
STOP_SECONDS: Final = 1.0  # for what is under way when the node ends


class Heard(NamedTuple):
    """A service that is announced, as far as it makes sense."""

    announcement: Announcement
    addresses: tuple[str, ...]


class Gone(NamedTuple):
    """The name of a service that is announced no longer."""

    name: str


Report = Callable[[Heard | Gone], None]


class Mdns:
    """One run of multicast DNS on some interfaces.

    ``report`` is called in zeroconf's thread. Making and closing one wait for that thread.
    """

    def __init__(self, interfaces: Interfaces, report: Report) -> None:
        """Raises: NetworkError when the system does not let us."""
        names: list[str | int] = [str(one.ip) for one in interfaces if one.ip.version == 4]
        names += dict.fromkeys(one.index for one in interfaces if one.ip.version == 6)
        versions = {one.ip.version for one in interfaces}
        version = zeroconf.IPVersion.All
        if len(versions) == 1:
            version = zeroconf.IPVersion.V4Only if 4 in versions else zeroconf.IPVersion.V6Only
        try:
            self._zeroconf = zeroconf.Zeroconf(interfaces=names, ip_version=version, use_asyncio=False)
        except (OSError, RuntimeError, zeroconf.Error) as error:
            raise NetworkError(f"no multicast on the local network: {error}") from error
        assert self._zeroconf.loop is not None
        self._loop = self._zeroconf.loop
        self._loop.set_exception_handler(lambda _loop, _context: None)  # what strangers send may fail there
        self._report = report
        self._own: dict[str, zeroconf.ServiceInfo] = {}
        self._browser: AsyncServiceBrowser | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._tokens, self._tokens_at = float(LOOKS_PER_SECOND), self._loop.time()

    def announce(self, services: Sequence[Announcement], addresses: Collection[str]) -> None:
        """Announce these services, and no others any more."""
        self._start(self._announce(list(services), list(addresses)))

    def browse(self) -> None:
        """Ask who is there, and report all that are known already once more."""
        self._start(self._browse())

    def close(self) -> None:
        """Say goodbye and end."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(STOP_SECONDS)
        with contextlib.suppress(zeroconf.Error, TimeoutError, RuntimeError, OSError):
            self._zeroconf.close()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop)

    # ---- in zeroconf's thread

    async def _announce(self, services: list[Announcement], addresses: list[str]) -> None:
        wanted = {service.name: service for service in services} if addresses else {}
        for name in self._own.keys() - wanted.keys():
            await self._zeroconf.async_unregister_service(self._own.pop(name))
        for name, service in wanted.items():
            info = zeroconf.ServiceInfo(
                SERVICE_TYPE,
                name,
                port=service.port,
                properties=service.text(),
                server=name.replace(SERVICE_TYPE, "local."),
                host_ttl=HOST_SECONDS,
                other_ttl=SERVICE_SECONDS,
                parsed_addresses=addresses,
            )
            known = self._own.get(name)
            self._own[name] = info
            if known is None:  # nobody else can have this name: no need to ask the network first
                await self._zeroconf.async_register_service(info, cooperating_responders=True)
            elif (known.text, known.port, known.parsed_addresses()) != (
                info.text,
                info.port,
                info.parsed_addresses(),
            ):
                await self._zeroconf.async_update_service(info)

    async def _browse(self) -> None:
        await self._zeroconf.async_wait_for_start()
        if self._browser is not None:
            await self._browser.async_cancel()
        self._browser = AsyncServiceBrowser(self._zeroconf, SERVICE_TYPE, handlers=[self._changed])

    async def _stop(self) -> None:
        if self._browser is not None:
            await self._browser.async_cancel()
        for task in list(self._asking):
            task.cancel()

    def _changed(
        self,
        zeroconf: zeroconf.Zeroconf,
        service_type: str,
        name: str,
        state_change: zeroconf.ServiceStateChange,
    ) -> None:
        """A service came, went, or changed; zeroconf passes these four by name."""
        if name in self._own or not self._may_look():
            return
        try:
            decode_name(name)
        except DecodeError:
            return
        if state_change.name == "Removed":
            self._report(Gone(name))
            return
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf):
            self._look(info)
        elif len(self._asking) < MAX_ASKED:
            task = self._loop.create_task(self._ask(info))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, info: AsyncServiceInfo) -> None:
        """Ask for what is missing of a service."""
        with contextlib.suppress(zeroconf.Error, OSError):
            if await info.async_request(self._zeroconf, 1000 * ANSWER_SECONDS):
                self._look(info)

    def _look(self, info: AsyncServiceInfo) -> None:
        if len(info.text) > MAX_TEXT_BYTES:
            return
        try:
            announcement = Announcement.decode(info.name, info.properties, info.port)
        except DecodeError:
            self._report(Gone(info.name))  # it may have made sense before
            return
        self._report(Heard(announcement, tuple(info.parsed_scoped_addresses()[:MAX_LOOKED_AT])))

    def _may_look(self) -> bool:
        """Whether one more service may be looked at: a flood costs us no more than so much."""
        now = self._loop.time()
        self._tokens = min(LOOKS_PER_SECOND, self._tokens + (now - self._tokens_at) * LOOKS_PER_SECOND)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
