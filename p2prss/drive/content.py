"""Which log holds the bytes of a drive's files.

Either block 0 of the db core names it, or its manifest is derived from the db core's: the same
signers in a namespace of their own, so one key pair signs both.
Source: hyperdrive index.js ``getContentManifest``; spec/06-drive, "Keys".
"""

from dataclasses import replace

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KEY_SIZE, CoreKey, Namespace
from p2prss.crypto.namespaces import HYPERDRIVE_BLOBS
from p2prss.drive.btree import Header
from p2prss.drive.errors import DriveError
from p2prss.log.manifest import Manifest, core_key


def content_manifest(manifest: Manifest, key: CoreKey) -> Manifest:
    """The manifest of the blobs core of the drive with this db core: version, quorum and patch rule stay.

    Raises: DriveError for version 0, from which nothing is derived.
    """
    if manifest.version == 0:
        raise DriveError("a db core of manifest version 0 must name its blobs core")
    signers = tuple(
        replace(signer, namespace=Namespace(blake2b(HYPERDRIVE_BLOBS, key, signer.namespace)))
        for signer in manifest.signers
    )
    return Manifest(manifest.version, manifest.quorum, signers, allow_patch=manifest.allow_patch)


def content_core(
    header: Header | None, key: CoreKey, manifest: Manifest | None
) -> tuple[CoreKey, Manifest | None]:
    """Key and, where it is known, manifest of a drive's blobs core; what block 0 says wins.

    Raises: DriveError when there is nothing to find it by.
    """
    if header is not None and header.content_feed is not None:
        if len(header.content_feed) < KEY_SIZE:
            raise DriveError("block 0 names a blobs core by less than a key")
        return CoreKey(header.content_feed[:KEY_SIZE]), None
    if manifest is None or core_key(manifest) != key:
        raise DriveError("this is no drive: it names no blobs core, and none can be derived")
    derived = content_manifest(manifest, key)
    return core_key(derived), derived
