"""Any OpenAI-style embeddings endpoint: `openai+http://HOST:PORT/v1?model=NAME&format=base64`."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedge.errors import BackendError, DeadlineExceeded, EmbedgeError, InvalidInput, NotFound, Overloaded, Unavailable
from embedge_bench.processes import listening
from embedge_bench.results import TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.base import Target, TargetReply, follow

__all__ = ["OpenAI", "make"]

_OPEN_SECONDS = 60.0
_PACKED = 4096  # requests kept as bytes


class OpenAIOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the address. format: how the vectors travel. The key is read from OPENAI_API_KEY, if it is set."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    format: Literal["base64", "float"] = "base64"


class _EmbeddingObject(msgspec.Struct):
    index: int
    embedding: str | list[float]


class _EmbeddingsResponse(msgspec.Struct):
    data: list[_EmbeddingObject]  # its token count is not read: servers count characters, words or nothing


class OpenAI(Target):
    """An endpoint called over connections that stay open, by one thread; a request is packed once for each text."""

    threads = False

    def __init__(self, spec: Spec, url: str, address: str, options: OpenAIOptions) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise Unavailable("aiohttp is not installed; pip install 'embedge[bench]'") from error
        self._aiohttp, self._spec, self._url, self._options = aiohttp, spec, url, options
        self._packed = lru_cache(_PACKED)(self._pack)
        self.processes = listening(address)
        self._loop = asyncio.new_event_loop()
        # Owned by this target: runs the loop, on which all requests are sent and read, until it is closed.
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()
        self._session = self._start(self._connect()).result()
        try:
            self.embed(["a"], _OPEN_SECONDS)
        except BaseException:
            self.close()
            raise

    def info(self) -> TargetInfo:
        """Describe the target."""
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind="OpenAI-style HTTP",
            model=self._options.model,
            note=f"vectors as {self._options.format}",
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors."""
        return self.submit(texts, timeout).result()

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply]:
        """Return a future of the vectors."""
        sent = self._start(self._post(self._packed(tuple(texts)), timeout))
        return follow(sent, lambda: _answer(sent.result(), self._url))

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._start(self._session.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _connect(self) -> Any:
        """Return a session with one connection per concurrent request; it belongs to the loop."""
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        return self._aiohttp.ClientSession(connector=self._aiohttp.TCPConnector(limit=0), headers=headers)

    def _pack(self, texts: tuple[str, ...]) -> bytes:
        body = {"model": self._options.model, "input": texts, "encoding_format": self._options.format}
        return msgspec.json.encode(body)

    async def _post(self, body: bytes, timeout: float | None) -> bytes:
        """Return the reply's bytes. Raises EmbedgeError."""
        limit = self._aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(self._url, data=body, timeout=limit) as response:
                content: bytes = await response.read()
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(f"no answer from {self._url} in {timeout:g} s") from error
        except self._aiohttp.ClientError as error:
            raise Unavailable(f"cannot reach a server at {self._url}: {error}; check the address") from error
        if response.status != 200:
            raise _error(response.status, f"{self._url}: {response.status} {content[:200].decode(errors='replace')}")
        return content


def _answer(content: bytes, url: str) -> TargetReply:
    try:
        reply = msgspec.json.decode(content, type=_EmbeddingsResponse)
    except msgspec.DecodeError as error:
        raise BackendError(f"{url}: not the reply of an embeddings endpoint: {error}") from error
    rows = [_vector(item.embedding) for item in sorted(reply.data, key=lambda item: item.index)]
    return TargetReply(np.stack(rows))


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
    return OpenAI(spec, url, address, spec.convert(OpenAIOptions))
