"""The two clients: the same methods, large requests cut and put together again, limits, time."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge import AsyncClient, Client, DeadlineExceeded, Embedder, InvalidInput, NotFound, Request, Unavailable
from embedge.split import join
from tests.servers import played_model, serving

TEXTS = ["a red cat", "the dog runs", "zebra"]


def test_both_clients_have_the_same_methods() -> None:
    def public(cls: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(m).parameters) for name, m in methods if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


async def test_both_clients_give_the_same(address: str, client: Client) -> None:
    async with AsyncClient(address) as twin:
        np.testing.assert_array_equal(await twin.embed("tiny", TEXTS, dim=8), client.embed("tiny", TEXTS, dim=8))
        assert await twin.models() == client.models()
        assert await twin.model("tiny") == client.model("tiny")
        for call in (lambda c: c.embed("tini", TEXTS), lambda c: c.model("tini")):
            with pytest.raises(NotFound) as mine:
                call(client)
            with pytest.raises(NotFound) as theirs:
                await call(twin)
            assert str(mine.value) == str(theirs.value)


async def test_a_model_says_what_it_did_and_what_batches_cost(address: str, client: Client) -> None:
    before = client.stats("tiny")
    client.embed("tiny", TEXTS)
    after = client.stats("tiny")
    assert after.serving
    assert after.figures["items"] - before.figures["items"] == len(TEXTS)
    assert after.figures["padded_tokens"] - before.figures["padded_tokens"] >= (
        after.figures["tokens"] - before.figures["tokens"]
    )
    assert after.lanes >= 1
    assert after.lanes_reason
    assert len(after.cost.seconds) == len(after.cost.rows) * len(after.cost.lengths)
    assert min(after.cost.seconds) > 0
    with pytest.raises(NotFound):
        client.stats("tini")
    async with AsyncClient(address) as twin:
        assert (await twin.stats("tiny")).figures["items"] >= after.figures["items"]


def test_a_model_says_all_about_itself(client: Client, tiny: Embedder) -> None:
    assert [(model.name, model.version, list(model.towers)) for model in client.models()] == [
        ("other", "1", ["text"]),
        ("tiny", "1", ["text"]),
    ]
    model = client.model("tiny")
    assert (model.name, model.version) == ("tiny", "1")
    assert model.backend == tiny.backend
    assert model.backend_reason
    assert (model.device, model.batches_in_flight, model.cuda_graphs) == (tiny.device, 1, 0)
    [part] = model.towers[0].parts
    assert (part.name, part.modality, part.max_length, list(part.prompts)) == ("text", "text", 32, ["passage", "query"])
    [output] = model.towers[0].outputs
    assert (output.name, output.dim, output.normalized) == ("dense", 16, True)
    assert [space.id for space in model.spaces] == [output.space]


@pytest.mark.parametrize("dtype", ["float32", "int8", "ubinary"])
def test_a_large_request_is_put_together_as_if_it_were_one(client: Client, tiny: Embedder, dtype: str) -> None:
    texts = [*TEXTS * 400, " ", *TEXTS * 100]
    request = Request(items=texts, dtype=dtype)
    whole, local = client.run("tiny", request), tiny.run(request)
    np.testing.assert_array_equal(whole.outputs["dense"].values, local.outputs["dense"].values, strict=True)
    assert (whole.outputs["dense"].scales is None) == (dtype != "int8")
    np.testing.assert_array_equal(whole.tokens, local.tokens, strict=True)
    [error] = whole.errors.values()
    assert (error.index, str(error)) == (1200, str(local.errors[1200]))


async def test_a_large_request_of_the_async_client(address: str, tiny: Embedder) -> None:
    texts = TEXTS * 500
    async with AsyncClient(address) as client:
        np.testing.assert_array_equal(await client.embed("tiny", texts), tiny.embed(texts), strict=True)


@given(cuts=st.lists(st.integers(0, 12), max_size=4))
def test_the_replies_to_parts_join_to_the_reply_to_all(tiny: Embedder, cuts: list[int]) -> None:
    items = ["a cat", " ", "zebra", *TEXTS, " ", "the sky", "a", "b", "c", "d"]
    edges = [0, *sorted(cuts), len(items)]
    pieces = [tiny.run(Request(items=items[a:b], dtype="int8")) for a, b in pairwise(edges)]
    joined, whole = join(pieces), tiny.run(Request(items=items, dtype="int8"))
    np.testing.assert_array_equal(joined.outputs["dense"].values, whole.outputs["dense"].values)
    np.testing.assert_array_equal(joined.outputs["dense"].scales, whole.outputs["dense"].scales)
    assert {i: str(error) for i, error in joined.errors.items()} == {i: str(e) for i, e in whole.errors.items()}


async def test_parts_are_a_few_at_a_time(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        call = asyncio.ensure_future(client.embed("tiny", TEXTS * 2000))
        answered = 0
        while not call.done():
            waiting = [await model.call()]
            await client.models()  # by then, whatever was sent with it has come too
            while not model.calls.empty():
                waiting.append(model.calls.get_nowait())
            assert len(waiting) <= 4
            for request, future in waiting:
                future.set_result(model.reply(request))
                answered += len(request.items)
            if answered == 6000:
                await call
        assert (await call).shape == (6000, 16)


async def test_if_one_part_fails_the_rest_is_cancelled(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        call = asyncio.ensure_future(client.embed("tiny", ["first", *TEXTS * 2000]))
        calls = [await model.call() for _ in range(4)]
        (_, first), *rest = sorted(calls, key=lambda each: each[0].items[0] != "first")
        first.set_exception(InvalidInput("what is wrong"))
        with pytest.raises(InvalidInput, match="what is wrong"):
            await call
        await asyncio.wait_for(asyncio.wait([asyncio.wrap_future(future) for _, future in rest]), 30)
        assert all(future.cancelled() for _, future in rest)


def test_an_item_over_the_message_limit_names_the_limit_and_the_setting(address: str) -> None:
    with Client(address, max_message_bytes=2000) as client:
        assert client.embed("tiny", ["a cat"] * 10).shape == (10, 16)
        with pytest.raises(InvalidInput, match=r"limit is 2,000.*--max-message-bytes"):
            client.embed("tiny", ["x" * 3000])
        with pytest.raises(InvalidInput, match=r"limit is 2,000"):
            list(client.stream("tiny", [Request(items=["x" * 3000])]))
        with pytest.raises(InvalidInput, match=r"larger than max.*--max-message-bytes"):
            client.embed("tiny", ["a"] * 400)


async def test_a_message_over_the_servers_limit_is_the_callers_mistake(engines: Path) -> None:
    model = played_model(engines)
    model.script = model.reply
    async with serving(model, max_message_bytes=2000) as server, AsyncClient(server.address) as client:
        with pytest.raises(InvalidInput, match=r"larger than max.*--max-message-bytes"):
            await client.embed("tiny", ["x" * 3000])
        with pytest.raises(InvalidInput, match=r"the reply has .* limit is 2,000 \(--max-message-bytes\)"):
            await client.embed("tiny", ["a"] * 100)
        [(_, error)] = [each async for each in client.stream("tiny", [Request(items=["a"] * 100)])]
        assert isinstance(error, InvalidInput)


def test_a_deadline_that_has_passed_is_not_even_sent(client: Client) -> None:
    for timeout in (0, -1):
        with pytest.raises(DeadlineExceeded, match="had passed"):
            client.embed("tiny", TEXTS, timeout=timeout)
    with pytest.raises(DeadlineExceeded, match="had passed"):
        client.run("tiny", Request(items=TEXTS, deadline=time.monotonic() - 1))


async def test_the_clients_own_timeout_holds_where_a_call_names_none(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address, timeout=0.1) as client:
        with pytest.raises(DeadlineExceeded, match="allow more time"):
            await client.embed("tiny", ["a"])


def test_many_threads_share_one_client(client: Client, tiny: Embedder) -> None:
    expected = tiny.embed(TEXTS)
    with ThreadPoolExecutor(16) as pool:
        for vectors in pool.map(lambda _: client.embed("tiny", TEXTS), range(200)):
            np.testing.assert_array_equal(vectors, expected)


async def test_a_closed_client_says_that_it_is_closed(address: str) -> None:
    client, twin = Client(address), AsyncClient(address)
    client.close()
    await twin.close()
    with pytest.raises(Unavailable, match="the client is closed"):
        client.models()
    with pytest.raises(Unavailable, match="the client is closed"):
        next(client.stream("tiny", []))
    with pytest.raises(Unavailable, match="the client is closed"):
        client.wait_ready()
    with pytest.raises(Unavailable, match="the client is closed"):
        await twin.embed("tiny", TEXTS)


@pytest.mark.parametrize("item", [None, {"text": None}, {"text": {1, 2}}, {5: "a cat"}, {"\udc80": "a cat"}])
@pytest.mark.parametrize("place", [1, 1300])
def test_an_item_of_a_wrong_kind_is_named_by_its_place(client: Client, item: object, place: int) -> None:
    items = [*["a cat"] * place, item, "a dog"]
    with pytest.raises(InvalidInput, match=f"^item {place}: ") as raised:
        client.run("tiny", Request(items=items))
    assert raised.value.index == place


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dim": 8.5}, r"dim 8\.5 is not a whole number"),
        ({"dim": True}, "dim True is not a whole number"),
        ({"dim": 2**40}, "dim 1099511627776 is not possible"),
        ({"dtype": []}, r"dtype \[\] is unknown; choose one of float32"),
        ({"priority": "high"}, "priority 'high' is unknown; choose one of interactive, bulk"),
        ({"prompt": 5}, "prompt"),
        ({"tower": 5}, "tower"),
        ({"prompt": "\udc80"}, r"prompt '\\udc80' holds lone surrogates"),
        ({"tower": "\udc80"}, r"tower '\\udc80' holds lone surrogates"),
        ({"output": "\udc80"}, r"output '\\udc80' holds lone surrogates"),
        ({"model": "\udc80"}, r"model '\\udc80' holds lone surrogates"),
        ({"model": 5}, "model must be a text, not int"),
        ({"model": None}, "model must be a text, not NoneType"),
        ({"timeout": math.nan}, "nan is not a number of seconds"),
        ({"timeout": "1"}, "'1' is not a number of seconds"),
    ],
)
def test_an_option_of_a_wrong_kind_is_named(client: Client, options: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        client.embed(**{"model": "tiny", "items": TEXTS, **options})


def test_the_name_of_a_model_is_text_everywhere(client: Client) -> None:
    for call in (client.model, client.stats, lambda name: client.wait_ready(model=name)):
        with pytest.raises(InvalidInput, match="model must be a text, not int"):
            call(5)


@pytest.mark.parametrize("timeout", [math.inf, 1e10, 1e300, 360 * 86400, 10**400])
def test_a_timeout_without_end_is_none(address: str, timeout: float) -> None:
    with Client(address, timeout=timeout) as client:
        assert client.embed("tiny", TEXTS, timeout=timeout).shape == (3, 16)
        assert client.embed("tiny", TEXTS).shape == (3, 16)
        client.wait_ready(timeout)
        [(_, reply)] = client.stream("tiny", [Request(items=TEXTS)], timeout=timeout)
        assert reply.vectors.shape == (3, 16)


@pytest.mark.parametrize("timeout", [math.nan, "1", True])
def test_a_timeout_that_is_no_time_is_refused(address: str, timeout: object) -> None:
    with Client(address, timeout=timeout) as client:
        for call in (client.models, lambda: client.wait_ready(timeout), lambda: client.embed("tiny", TEXTS)):
            with pytest.raises(InvalidInput, match="is not a number of seconds"):
                call()


@pytest.mark.parametrize("token", ["two\nlines", "secret\n", "geheim-ü", "a\x00b", 5, b"secret"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_repeated(token: object) -> None:
    with pytest.raises(InvalidInput, match="the token must be printable ASCII") as raised:
        Client("127.0.0.1:1", token=token)
    assert str(token) not in str(raised.value)


def test_an_address_must_be_text() -> None:
    with pytest.raises(InvalidInput, match="the address must be a text, not int"):
        Client(50051)
