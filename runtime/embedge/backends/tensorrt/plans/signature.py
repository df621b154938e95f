"""Signatures of plans built elsewhere. Plans are machine code: a trusted key may run code here."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from embedge.backends.tensorrt.plans.record import RECORD, head
from embedge.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNATURE", "Trust", "Untrusted", "sign", "signer"]

SIGNATURE = "record.sig"
# Signed messages begin with this, so that a signature for something else isn't valid for a plan.
_PURPOSE = b"embedge plan 1\n"
_MOST = 1 << 10  # bytes of a signature


class Untrusted(Exception):
    """No trusted key signed a plan. The message says why."""


class Trust:
    """The public keys whose plans are trusted."""

    def __init__(self, files: Iterable[str | Path]) -> None:
        """Read the keys: ed25519, in PEM format.

        Raises:
            InvalidInput: A file isn't such a key, or others can write to it.
            Unavailable: cryptography isn't installed.
        """
        self._keys = {Path(file): _public(Path(file)) for file in files}

    def check(self, folder: Path, record: bytes) -> None:
        """Check that one of the keys signed a record.

        Args:
            folder: The plan's folder, with the signature.
            record: Bytes of the record's file.

        Raises:
            Untrusted: None of them did.
        """
        if not self._keys:
            raise Untrusted("it was built elsewhere, and trust_plans names no key")
        from cryptography.exceptions import InvalidSignature

        try:
            signature = head(folder / SIGNATURE, _MOST)
        except OSError as error:
            raise Untrusted("it is not signed") from error
        for key in self._keys.values():
            try:
                key.verify(signature, _PURPOSE + record)
            except InvalidSignature:
                continue
            return
        raise Untrusted(f"none of the keys in trust_plans signed it as it is: {', '.join(map(str, self._keys))}")


def signer(file: Path) -> Ed25519PrivateKey:
    """Return the ed25519 private key of a PEM file.

    Raises:
        InvalidInput: The file isn't such a key.
        Unavailable: cryptography isn't installed.
    """
    _check_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_bytes(file), password=None)
    except (TypeError, ValueError) as error:  # TypeError: it has a password
        raise _no_key(file, "private", "openssl genpkey -algorithm ed25519", error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file, "private", "openssl genpkey -algorithm ed25519", None)
    return key


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """Sign a plan's record, which has the plan's hash and key."""
    (folder / SIGNATURE).write_bytes(key.sign(_PURPOSE + (folder / RECORD).read_bytes()))


def _public(file: Path) -> Ed25519PublicKey:
    _check_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _bytes(file)
    if file.stat().st_mode & stat.S_IWOTH:
        raise InvalidInput(f"{file}: anybody could put a key of their own there; chmod o-w {file}")
    try:
        key = load_pem_public_key(data)
    except ValueError as error:
        raise _no_key(file, "public", "openssl pkey -pubout", error) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file, "public", "openssl pkey -pubout", None)
    return key


def _check_installed() -> None:
    if find_spec("cryptography") is None:
        raise Unavailable("signed plans need cryptography; pip install 'embedge[sign]'")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}") from error


def _no_key(file: Path, kind: str, command: str, error: Exception | None) -> InvalidInput:
    why = f" ({error})" if error else ""
    return InvalidInput(f"{file}: not a {kind} ed25519 key in PEM format without a password{why}; make one: {command}")
