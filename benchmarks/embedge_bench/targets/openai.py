"""Any OpenAI-style embeddings endpoint: `openai+http://HOST:PORT/v1?model=NAME&format=base64`."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedge.errors import BackendError, DeadlineExceeded, EmbedgeError, InvalidInput, NotFound, Overloaded, Unavailable
from embedge_bench.processes import listening
from embedge_bench.results import TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.base import Answer, Target

__all__ = ["OpenAI", "make"]

_OPEN_SECONDS = 60.0
_CONNECTIONS = 1024


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the address. format: how the vectors travel. The key is read from OPENAI_API_KEY, if it is set."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    format: Literal["base64", "float"] = "base64"


class _Vector(msgspec.Struct):
    index: int
    embedding: str | list[float]


class _Reply(msgspec.Struct):
    data: list[_Vector]  # its token count is not read: servers count characters, words or nothing


class OpenAI(Target):
    """An endpoint called over connections that stay open."""

    def __init__(self, spec: Spec, url: str, address: str, options: Options) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise Unavailable("httpx2 is not installed; pip install 'embedge[bench]'") from error
        self._spec, self._url, self._options = spec, url, options
        key = os.environ.get("OPENAI_API_KEY")
        self._httpx = httpx2
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(limits=limits, headers=headers, timeout=None, trust_env=False)
        self.processes = listening(address)
        try:
            self.embed(["a"], _OPEN_SECONDS)
        except BaseException:
            self._client.close()
            raise

    def info(self) -> TargetInfo:
        """Return what it is."""
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind="OpenAI-style HTTP",
            model=self._options.model,
            note=f"vectors as {self._options.format}",
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> Answer:
        """Return the vectors."""
        body = {"model": self._options.model, "input": list(texts), "encoding_format": self._options.format}
        try:
            response = self._client.post(
                self._url,
                content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
                timeout=timeout,
            )
        except self._httpx.TimeoutException as error:
            raise DeadlineExceeded(f"no answer from {self._url} in {timeout:g} s") from error
        except self._httpx.TransportError as error:
            raise Unavailable(f"cannot reach a server at {self._url}: {error}; check the address") from error
        if response.status_code != 200:
            raise _error(response.status_code, f"{self._url}: {response.status_code} {response.text[:200]}")
        return _answer(response.content, self._url)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _answer(content: bytes, url: str) -> Answer:
    try:
        reply = msgspec.json.decode(content, type=_Reply)
    except msgspec.DecodeError as error:
        raise BackendError(f"{url}: not the reply of an embeddings endpoint: {error}") from error
    rows = [_vector(item.embedding) for item in sorted(reply.data, key=lambda item: item.index)]
    return Answer(np.stack(rows))


def _vector(value: str | list[float]) -> NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), dtype="<f4")
    return np.array(value, dtype=np.float32)


def _error(status: int, message: str) -> EmbedgeError:
    kinds: dict[int, type[EmbedgeError]] = {404: NotFound, 429: Overloaded, 503: Unavailable, 504: DeadlineExceeded}
    return kinds.get(status, BackendError if status >= 500 else InvalidInput)(message)


def make(spec: Spec) -> OpenAI:
    """Connect and embed one text. Raises Unavailable, NotFound, InvalidInput."""
    address, tail = spec.host()
    url = f"{spec.scheme.partition('+')[2]}://{address}/{tail.strip('/')}".rstrip("/") + "/embeddings"
    return OpenAI(spec, url, address, spec.convert(Options))
