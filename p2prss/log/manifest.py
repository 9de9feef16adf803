"""Manifests: who may sign a log. A core's key is the hash of its manifest.

Layout, versions 1 to 3: version uint | flags uint | hash uint (0) | quorum uint | signers array |
prologue (flag 2: tree hash 32, length uint) | linked (flag 4: array of 32) | user data (flag 8: buffer).
Version 0: 0 | hash uint (0) | type uint | static: prologue hash 32, or one signer, or flags, quorum, signers.
Signer: signature type uint (0, Ed25519) | namespace 32 | public key 32.
Source: hypercore lib/messages.js ``manifest``, lib/verifier.js; spec/03-log.
"""

from dataclasses import dataclass
from typing import Final, Self

from p2prss.codec.compact import Reader, Writer
from p2prss.crypto.hashes import HASH_SIZE, blake2b
from p2prss.crypto.keys import KEY_SIZE, CoreKey, Namespace, PublicKey
from p2prss.crypto.namespaces import DEFAULT_NAMESPACE, MANIFEST
from p2prss.errors import DecodeError
from p2prss.units import KIB

MAX_VERSION: Final = 3
MAX_SIGNERS: Final = 256  # each costs a signature check per head
MAX_LINKED: Final = 1024  # core keys
MAX_USER_DATA: Final = 64 * KIB  # bytes; it means nothing to us

_ALLOW_PATCH, _PROLOGUE, _LINKED, _USER_DATA = 0b0001, 0b0010, 0b0100, 0b1000  # flag bits
_STATIC, _SINGLE, _MULTIPLE = 0, 1, 2  # version 0 types
_BLAKE2B, _ED25519 = 0, 0
_SIGNER_SIZE: Final = 1 + KEY_SIZE + KEY_SIZE  # bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """One who may sign; ``namespace`` keeps cores of the same key pair apart."""

    public_key: PublicKey
    namespace: Namespace = DEFAULT_NAMESPACE

    def encode(self, out: Writer) -> None:
        out.uint(_ED25519)
        out.fixed(self.namespace, KEY_SIZE)
        out.fixed(self.public_key, KEY_SIZE)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        start = src.position
        if src.uint() != _ED25519:
            raise DecodeError("unknown signature type", offset=start)
        namespace = Namespace(src.fixed(KEY_SIZE))
        return cls(PublicKey(src.fixed(KEY_SIZE)), namespace)


@dataclass(frozen=True, slots=True)
class Prologue:
    """The tree hash of a log's first ``length`` blocks: they need no signature."""

    hash: bytes  # 32 bytes
    length: int  # blocks


@dataclass(frozen=True, slots=True)
class Manifest:
    """Who may sign, and how many of them must.

    Raises: ValueError for what no version can say (quorum above the signers, sizes, limits).
    """

    version: int
    quorum: int
    signers: tuple[Signer, ...]
    allow_patch: bool = False
    prologue: Prologue | None = None
    linked: tuple[bytes, ...] | None = None  # core keys, 32 bytes each; no effect here
    user_data: bytes | None = None  # no effect here

    def __post_init__(self) -> None:
        if not 0 <= self.version <= MAX_VERSION:
            raise ValueError(f"unknown manifest version {self.version}")
        if not 0 <= self.quorum <= len(self.signers) <= MAX_SIGNERS:
            raise ValueError(f"quorum {self.quorum} of {len(self.signers)} signers")
        if self.version < 2 and (self.linked is not None or self.user_data is not None):
            raise ValueError(f"a version {self.version} manifest has neither links nor user data")
        if self.version == 0 and self.prologue is not None and (self.signers or self.prologue.length):
            raise ValueError("a version 0 manifest has a prologue or signers")
        if len(self.linked or ()) > MAX_LINKED or len(self.user_data or b"") > MAX_USER_DATA:
            raise ValueError("manifest too large")

    @classmethod
    def single(cls, public_key: PublicKey, namespace: Namespace = DEFAULT_NAMESPACE) -> Self:
        """The manifest Hypercore and Corestore make for one key pair: version 1, 70 bytes."""
        return cls(version=1, quorum=1, signers=(Signer(public_key, namespace),))

    def encode(self) -> bytes:
        """The canonical encoding, which the core key is the hash of."""
        out = Writer()
        out.uint(self.version)
        if self.version == 0:
            self._encode_version_0(out)
        else:
            self._encode_version_1(out)
        return out.finish()

    def _encode_version_0(self, out: Writer) -> None:
        out.uint(_BLAKE2B)
        if self.prologue is not None:
            out.uint(_STATIC)
            out.fixed(self.prologue.hash, HASH_SIZE)
        elif self.quorum == 1 and len(self.signers) == 1 and not self.allow_patch:
            out.uint(_SINGLE)
            self.signers[0].encode(out)
        else:
            out.uint(_MULTIPLE)
            out.uint(_ALLOW_PATCH if self.allow_patch else 0)
            out.uint(self.quorum)
            self._encode_signers(out)

    def _encode_version_1(self, out: Writer) -> None:
        out.uint(
            (_ALLOW_PATCH if self.allow_patch else 0)
            | (_PROLOGUE if self.prologue is not None else 0)
            | (_LINKED if self.linked is not None else 0)
            | (_USER_DATA if self.user_data is not None else 0)
        )
        out.uint(_BLAKE2B)
        out.uint(self.quorum)
        self._encode_signers(out)
        if self.prologue is not None:
            out.fixed(self.prologue.hash, HASH_SIZE)
            out.uint(self.prologue.length)
        if self.linked is not None:
            out.uint(len(self.linked))
            for key in self.linked:
                out.fixed(key, KEY_SIZE)
        if self.user_data is not None:
            out.buffer(self.user_data)

    def _encode_signers(self, out: Writer) -> None:
        out.uint(len(self.signers))
        for signer in self.signers:
            signer.encode(out)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        """Read one manifest; unknown flag bits are dropped, what follows is left unread.

        Raises: DecodeError, also for a manifest that contradicts itself or is beyond our limits.
        """
        start = src.position
        version = src.uint()
        if version > MAX_VERSION:
            raise DecodeError(f"unknown manifest version {version}", offset=start)
        try:
            return cls._decode_version_0(src) if version == 0 else cls._decode_version_1(src, version)
        except ValueError as error:
            raise DecodeError(f"bad manifest: {error}", offset=start) from None

    @classmethod
    def _decode_version_0(cls, src: Reader) -> Self:
        _expect_blake2b(src)
        start, kind = src.position, src.uint()
        if kind == _STATIC:
            return cls(version=0, quorum=0, signers=(), prologue=Prologue(src.fixed(HASH_SIZE), 0))
        if kind == _SINGLE:
            return cls(version=0, quorum=1, signers=(Signer.decode(src),))
        if kind != _MULTIPLE:
            raise DecodeError(f"unknown manifest type {kind}", offset=start)
        flags, quorum = src.uint(), src.uint()
        signers = tuple(src.array(Signer.decode, _SIGNER_SIZE, MAX_SIGNERS))
        return cls(version=0, quorum=quorum, signers=signers, allow_patch=bool(flags & _ALLOW_PATCH))

    @classmethod
    def _decode_version_1(cls, src: Reader, version: int) -> Self:
        flags = src.uint()
        _expect_blake2b(src)
        quorum = src.uint()
        return cls(
            version=version,
            quorum=quorum,
            signers=tuple(src.array(Signer.decode, _SIGNER_SIZE, MAX_SIGNERS)),
            allow_patch=bool(flags & _ALLOW_PATCH),
            prologue=Prologue(src.fixed(HASH_SIZE), src.uint()) if flags & _PROLOGUE else None,
            linked=tuple(src.array(_read_key, KEY_SIZE, MAX_LINKED)) if flags & _LINKED else None,
            user_data=bytes(src.buffer(MAX_USER_DATA)) if flags & _USER_DATA else None,
        )


def core_key(manifest: Manifest) -> CoreKey:
    """The key of the core that ``manifest`` describes: 32 bytes."""
    return CoreKey(blake2b(MANIFEST, manifest.encode()))


def compat_manifest(key: CoreKey) -> Manifest:
    """What a compat core, whose key is its signer's public key, behaves like."""
    return Manifest(version=0, quorum=1, signers=(Signer(PublicKey(key)),))


def _expect_blake2b(src: Reader) -> None:
    start = src.position
    if src.uint() != _BLAKE2B:
        raise DecodeError("unknown hash type", offset=start)


def _read_key(src: Reader) -> bytes:
    return src.fixed(KEY_SIZE)
