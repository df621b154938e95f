"""Settings of the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from embedge import toml
from embedge.config import RuntimeConfig, renamed
from embedge.errors import InvalidInput
from embedge.wire import MAX_MESSAGE_BYTES

__all__ = ["ServeConfig"]


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server serves, where, and to whom.

    Attributes:
        repository: Directory of models, or of one model or bundle.
        models: Names of the models to serve. None serves all.
        host: Address to listen on. `0.0.0.0` listens on all.
        port: Port to listen on. 0 picks a free one.
        token: Token that calls carry as `authorization: Bearer <token>`; health checks don't need it. None admits all.
        tls_cert: PEM file of the server's certificate. None serves without TLS.
        tls_key: PEM file of the certificate's key; required with `tls_cert`.
        tls_client_ca: PEM file of the authority that signs clients' certificates. None doesn't ask for them.
        max_message_bytes: Largest message in either direction, in bytes.
        stream_in_flight: Unanswered requests of one stream before the server stops reading it.
        drain_seconds: Time for finishing admitted work after SIGTERM, in seconds, at most a day.
        ready_file: File that holds the address while all models are warm. None writes no file.
        trace: File for what each thread did and when, in Chrome's trace format. None records nothing.
        runtime: Settings of each model; see `RuntimeConfig`. In a TOML file, the table `[runtime]`.
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
        """Load the settings of a TOML file, overridden by options.

        Args:
            file: The TOML file; None starts from the defaults.
            options: Settings by name; None leaves a setting as it is.
            runtime: The same for the settings of `runtime`.

        Raises:
            InvalidInput: The file or a setting is wrong.
        """
        values = toml.read(file) if file else {}
        nested = values.get("runtime", {})
        for key in (*values, *(nested if isinstance(nested, dict) else ())):
            if hint := renamed(key):
                raise InvalidInput(f"{file}: {hint}")
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
    """Convert a string to a path, the one type that TOML lacks."""
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
