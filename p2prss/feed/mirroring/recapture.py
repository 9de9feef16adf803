"""Capturing an enclosure again, where its origin announces that it has changed.

Only with a policy that says so, one file at a time and after all that is missing. Where a feed
announces nothing the origin is asked now and then, with the ETag of the capture. An answer with
other bytes is told from inserted advertisements by asking once more: there, every answer is another.
"""

import shutil
from typing import Final

import msgspec

from p2prss.errors import FetchError, RefusedError, TryAgainError
from p2prss.feed.archive.pinning import is_extra, superseded, with_extras
from p2prss.feed.archive.records import ArchivedItem, Asset, Recapture
from p2prss.feed.archive.writer import NewFile
from p2prss.feed.media_types import STREAMS, settle, sniff
from p2prss.feed.mirroring.changes import with_record
from p2prss.feed.mirroring.policy import limit_of, room_left, within
from p2prss.feed.mirroring.report import CapturesDiffer, MediaFailed, MediaStored
from p2prss.feed.mirroring.update import Update
from p2prss.feed.model import Role
from p2prss.feed.origin.fetch import Fetched, Retries, Validators
from p2prss.feed.origin.url import redact
from p2prss.units import KIB

QUESTIONS: Final = 5  # asked in one update about enclosures that nothing says have changed
MAX_SECOND_ANSWER: Final = 64 * KIB  # bytes of an answer that is only to show whether there is another one

DYNAMIC: Final = "dynamic"
BESIDE: Final = "recapture"  # note of a further capture that is kept beside the first


class Recaptures:
    """The further captures of one update."""

    def __init__(self, update: Update) -> None:
        self._path = update.folder / "again"
        self._writer = update.writer
        self._fetcher = update.fetcher
        self._policy = update.policy
        self._retries = update.retries
        self._memory = update.memory
        self._now = update.now
        self._tell = update.tell
        self._report = update.report

    async def run(self) -> None:
        """Capture what is due, newest first, and ask about a few others."""
        if self._policy.recapture not in (Recapture.ON_CHANGE, Recapture.KEEP_BOTH):
            return
        questions = 0
        for found in list(within(self._policy, self._writer.newest_first)):
            enclosures = [one for one in found.assets if one.role == Role.ENCLOSURE]
            for number, asset in enumerate(enclosures, 1):
                if asset.path is None or not asset.url.startswith(("http://", "https://")):
                    continue
                if self._memory.must_wait(asset.url, self._now()):
                    continue
                item = self._writer.items[found.item_id]  # as the capture of another enclosure left it
                if self._memory.is_due(item.item_id, number):
                    await self._again(item, number, asset, "")
                elif asset.note != DYNAMIC and questions < QUESTIONS:
                    etag = self._memory.etag_to_ask_with(item.item_id, number, self._now())
                    if etag:
                        questions += 1
                        await self._again(item, number, asset, etag)

    async def _again(self, item: ArchivedItem, number: int, asset: Asset, etag: str) -> None:
        """Fetch an enclosure, with an ETag only if it is another, and keep what came as the policy says."""
        disk = shutil.disk_usage(self._path.parent)
        if room_left(disk.free, disk.total) < (asset.byte_length or 0):
            return
        try:
            fetched = await self._fetch(asset, etag)
            is_known = fetched.not_modified or fetched.sha256 in {one.sha256 for one in item.assets}
            if etag and not is_known and not await self._is_lasting(asset, fetched.validators):
                await self._flag(item, asset)
                is_known = True
            if not is_known:
                await self._keep(item, number, asset, fetched)
            new_etag = etag if fetched.not_modified else fetched.validators.etag
            self._memory.captured(item.item_id, number, self._now(), new_etag, None)
            self._memory.succeeded(asset.url)
        except (FetchError, TryAgainError) as error:
            self._memory.failed(asset.url, self._now(), is_refused=isinstance(error, RefusedError))
            failure = MediaFailed(item.title, str(error))
            self._report.failures.append(failure)
            self._tell(failure)
        finally:
            self._path.unlink(missing_ok=True)

    async def _fetch(self, asset: Asset, etag: str) -> Fetched:
        fetched = await self._fetcher.fetch(
            asset.url,
            self._path,
            max_bytes=limit_of(asset),
            validators=Validators(etag) if etag else None,
            retries=self._retries,
            refuse_html=True,
        )
        if not fetched.not_modified and (not fetched.byte_length or sniff(fetched.head) in STREAMS):
            raise RefusedError(f"{redact(asset.url)}: what comes now is no file")
        return fetched

    async def _is_lasting(self, asset: Asset, validators: Validators) -> bool:
        """Whether the origin would answer with the same bytes once more."""
        if not validators.etag:
            return False
        second = self._path.with_name("second")
        try:
            answer = await self._fetcher.fetch(
                asset.url,
                second,
                max_bytes=MAX_SECOND_ANSWER,
                validators=Validators(validators.etag),
                retries=Retries(attempts=1),
            )
        except RefusedError:
            return False  # larger than that: it is sent again
        finally:
            second.unlink(missing_ok=True)
        return answer.not_modified

    async def _flag(self, item: ArchivedItem, asset: Asset) -> None:
        """Note that captures differ although nothing announced a change."""
        flagged = msgspec.structs.replace(asset, note=DYNAMIC)
        assets = tuple(flagged if one == asset else one for one in item.assets)
        await self._writer.put_media(with_record(item, assets=assets), [], None)
        self._tell(CapturesDiffer(item.title))

    async def _keep(self, item: ArchivedItem, number: int, asset: Asset, fetched: Fetched) -> None:
        mime_type, ending = settle(asset.url, asset.mime_type, fetched.mime_type, head=fetched.head)
        sha256 = fetched.sha256
        path = self._writer.media.get(sha256)
        new = [NewFile(f"/media/{sha256[:2]}/{sha256}.{ending}", fetched.path, fetched.byte_length)]
        capture = msgspec.structs.replace(
            asset,
            path=path or new[0].path,
            mime_type=mime_type[:200],
            byte_length=fetched.byte_length,
            sha256=sha256,
            captured_at=self._now(),
        )
        assets = [one for one in item.assets if not is_extra(one)]
        extras = [one for one in item.assets if is_extra(one)]
        if self._policy.recapture == Recapture.KEEP_BOTH:
            role = Role.ALTERNATE.value
            extras.append(msgspec.structs.replace(capture, role=role, number=number, note=BESIDE))
        else:
            assets = [capture if one == asset else one for one in assets]
            extras.append(superseded(asset, number))
        changed = with_record(item, assets=with_extras(assets, extras))
        await self._writer.put_media(changed, new if path is None else [], None)
        self._report.fetched_files += path is None
        self._report.fetched_bytes += fetched.byte_length if path is None else 0
        self._tell(MediaStored(item.title, asset.role, fetched.byte_length, is_new=path is None))
