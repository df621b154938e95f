"""Targets: every one returns the vectors that the model has, and tells refusal from failure."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import Embedder
from embedge.errors import BackendError, DeadlineExceeded, InvalidInput, NotFound, Overloaded, Unavailable
from embedge_bench.targets import Target, open_target, parse
from tests.servers import played_model, served, serving
from tests.tiny import words

TEXTS = ["a cat", words(6), words(60)]


class Endpoint(BaseHTTPRequestHandler):
    """An embeddings endpoint: the vector of a text is its length and its number of words."""

    status = 200

    def do_POST(self) -> None:  # the name that http.server calls
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        rows = [np.array([len(text), len(text.split())], np.float32) for text in body["input"]]
        encode: Any = np.ndarray.tolist
        if body["encoding_format"] == "base64":
            encode = lambda row: base64.b64encode(row.tobytes()).decode()  # noqa: E731  # one of two short forms
        data = [{"index": place, "embedding": encode(row)} for place, row in enumerate(rows)]
        good = self.path == "/v1/embeddings" and body["model"] == "m"
        answer = {"data": data[::-1], "usage": {"prompt_tokens": 7}}
        content = json.dumps(answer if good else {"error": "no such model"}).encode()
        self.send_response(self.status if good else 404)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(text: str) -> Iterator[Target]:
    target = open_target(parse(text))
    try:
        yield target
    finally:
        target.close()


@pytest.fixture(scope="module")
def right(engines: Path) -> np.ndarray:
    with Embedder.open(engines / "tiny") as embedder:
        return embedder.embed(TEXTS, truncate=True)


@pytest.mark.parametrize(
    "text",
    [
        "inproc:{engines}/tiny",
        "inproc:{engines}/tiny?lanes=2&threads=1",
        "ort:{engines}/tiny",
        "ort:{engines}/tiny?batch=8&sort=1&threads=1",
        "grpc://{address}/tiny",
        "grpc://{address}",
        "grpc+stream://{address}/tiny",
        "oip://{address}/tiny?truncate=1",
    ],
)
def test_vectors_are_the_models(engines: Path, address: str, right: np.ndarray, text: str) -> None:
    with opened(text.format(engines=engines, address=address)) as target:
        answer = target.embed(TEXTS)
        assert target.info().model == "tiny"
        flown = target.submit(TEXTS, 30.0)
        assert flown is None or flown.result(30).vectors == pytest.approx(right, abs=1e-6)
    assert answer.vectors == pytest.approx(right, abs=1e-6)
    assert answer.tokens in (None, 4 + 8 + 32)


def test_a_target_in_process_leaves_a_trace(engines: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with opened(f"inproc:{engines}/tiny?trace={file}") as target:
        target.embed(TEXTS)
    names = {event["name"] for event in json.loads(file.read_text())["traceEvents"]}
    assert {"prepare", "start"} <= names, names


def test_stream_answers_each_caller_its_own(address: str) -> None:
    with opened(f"grpc+stream://{address}/tiny") as target, opened(f"grpc://{address}/tiny") as alone:
        texts = [words(1 + number, seed=number) for number in range(16)]
        found: dict[int, np.ndarray] = {}

        def call(number: int) -> None:
            found[number] = target.embed([texts[number]]).vectors

        callers = [threading.Thread(target=call, args=(number,)) for number in range(16)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert all(found[n] == pytest.approx(alone.embed([texts[n]]).vectors, abs=1e-6) for n in range(16))


def test_bad_text_fails_its_own_request(engines: Path, address: str) -> None:
    for text in (f"inproc:{engines}/tiny", f"grpc://{address}/tiny", f"grpc+stream://{address}/tiny"):
        with opened(text) as target:
            with pytest.raises(InvalidInput):
                target.embed([""])
            with pytest.raises(InvalidInput):
                target.submit([""]).result(30)
            assert len(target.embed(["a cat"]).vectors) == 1


def test_counters_count_padding(engines: Path) -> None:
    with opened(f"ort:{engines}/tiny?batch=2") as target:
        target.embed(["a cat", words(6)])
        counters = target.counters()
    assert (counters.batches, counters.rows, counters.computed) == (1, 2, 16)


async def test_deadline_is_carried(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server:
        target = await asyncio.to_thread(open_target, parse(f"grpc://{server.address}/tiny"))
        try:
            for send in (target.embed, lambda *sent: target.submit(*sent).result(30)):
                sent = asyncio.create_task(asyncio.to_thread(send, ["a cat"], 60.0))
                request, reply = await model.call()
                assert request.deadline is not None
                assert request.deadline <= time.monotonic() + 90, "gRPC rounds up"
                reply.set_result(model.reply(request))
                assert len((await sent).vectors) == 1
                with pytest.raises(DeadlineExceeded):  # the model never answers this one
                    await asyncio.to_thread(send, ["a cat"], -1.0)
        finally:
            await asyncio.to_thread(target.close)


def test_server_ends_the_streams_callers(engines: Path) -> None:
    with served(engines) as process, opened(f"grpc+stream://{process.address}/tiny") as target:
        target.embed(["a cat"])
        process.stop()
        with pytest.raises(Unavailable):
            target.embed(["a cat"])


@pytest.mark.parametrize("form", ["base64", "float"])
def test_openai_style_vectors_come_in_order(form: str) -> None:
    with endpoint() as address, opened(f"openai+http://{address}/v1?model=m&format={form}") as target:
        answer = target.embed(["ab", "a b c"])
    assert answer.vectors.tolist() == [[2, 1], [5, 3]]
    assert answer.tokens is None  # the server says 7, but what servers count differs


def test_openai_style_errors_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint() as address:
        with pytest.raises(NotFound, match="no such model"):
            open_target(parse(f"openai+http://{address}/v1?model=wrong"))
        with opened(f"openai+http://{address}/v1?model=m") as target:
            for status, kind in ((429, Overloaded), (503, Unavailable), (500, BackendError), (422, InvalidInput)):
                monkeypatch.setattr(Endpoint, "status", status)
                with pytest.raises(kind):
                    target.embed(["a"])


def test_oip_names_what_it_has_when_asked_for_what_it_has_not(address: str) -> None:
    with pytest.raises(NotFound, match=r"the model has: dense \(FP32\)"):
        open_target(parse(f"oip://{address}/tiny?output=wrong"))


def test_names_are_short_or_given() -> None:
    assert parse("ours=grpc://host:1/m").name == "ours"
    assert parse("grpc://host:1/m").name == "grpc://host:1/m"
    assert parse("inproc:some/where/minilm?lanes=2").name == "inproc:minilm?lanes=2"
    assert parse("a=openai+http://host:1/v1?model=m").options == {"model": "m"}
