"""Settings of the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from embedge import toml
from embedge.config import RuntimeConfig
from embedge.errors import InvalidInput
from embedge.wire import MAX_MESSAGE_BYTES

__all__ = ["ServeConfig"]


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is served, where, and to whom.

    repository: directory of models; one model's or one bundle's directory will do too.
    models: names of the models to serve; None means all.
    host, port: where to listen; port 0 lets the system choose one.
    token: calls must carry it as `authorization: Bearer <token>`, but for health; None admits all.
    tls_cert, tls_key: PEM files of the server's certificate and key; both or neither.
    tls_client_ca: PEM file of the authority whose certificates clients must show.
    max_message_bytes: largest message in either direction.
    stream_in_flight: requests of one stream that may be unanswered before the server reads no further.
    drain_seconds: time that admitted work gets after SIGTERM, at most a day.
    ready_file: written with the bound address once all models are warm.
    trace: file for what each thread did and when, in Chrome trace format.
    """

    repository: Path = Path("engines")
    models: tuple[str, ...] | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 50051
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1024)] = MAX_MESSAGE_BYTES
    stream_in_flight: Annotated[int, msgspec.Meta(ge=1)] = 64
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    ready_file: Path | None = None
    trace: Path | None = None
    runtime: RuntimeConfig = RuntimeConfig()

    @classmethod
    def load(cls, file: Path | None, options: Mapping[str, Any], runtime: Mapping[str, Any]) -> ServeConfig:
        """Return a TOML file's settings (table `runtime`: see `RuntimeConfig`), changed by the options not None."""
        values = toml.read(file) if file else {}
        nested = values.get("runtime", {})
        values |= {key: value for key, value in options.items() if value is not None}
        if isinstance(nested, dict):
            values["runtime"] = nested | {key: value for key, value in runtime.items() if value is not None}
        try:
            return msgspec.convert(values, cls, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{file or 'the command line'}: {error}") from error

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInput("TLS needs both --tls-cert and --tls-key")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise InvalidInput("--tls-client-ca needs TLS: give --tls-cert and --tls-key too")
        if self.ready_file is not None and self.ready_file.exists() and not self.ready_file.is_file():
            raise InvalidInput(f"--ready-file {self.ready_file}: this is no regular file, and it would be removed")
        if self.token == "":
            raise InvalidInput("the token is empty; give a longer one, or none to admit every caller")


def _path(kind: type[Any], value: Any) -> Any:
    """Make the one kind of value that TOML does not have: a path, from its text."""
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
