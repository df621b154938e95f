"""Client credentials: the token, trusted authorities and the client's certificate."""

from __future__ import annotations

from pathlib import Path

import grpc

from embedge.errors import InvalidInput

__all__ = ["bearer", "trust"]


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata of every call. Raises InvalidInput, without the token in its message."""
    if not token:
        return ()
    if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
        raise InvalidInput("the token must be printable ASCII text, without line breaks; read from a file, strip() it")
    return (("authorization", f"Bearer {token}"),)


def _pem(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: the PEM file cannot be read: {error.strerror}") from error


def trust(tls: bool | str | Path | None, cert: tuple[str | Path, str | Path] | None) -> grpc.ChannelCredentials | None:
    """Return the channel's credentials, or None without TLS. Raises InvalidInput for unreadable files."""
    if tls is None or tls is False:
        if cert is not None:
            raise InvalidInput("a client certificate needs TLS: give tls=True, or the path of the authorities to trust")
        return None
    roots = None if tls is True else _pem(tls)
    own, key = (_pem(path) for path in cert) if cert else (None, None)
    return grpc.ssl_channel_credentials(roots, key, own)
