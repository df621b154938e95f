"""TLS, with and without a certificate of the client's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from embedge import AsyncClient, InvalidInput, Unavailable
from tests.servers import played_model, serving


class Keys(NamedTuple):
    authority: Path
    cert: Path
    key: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    home = tmp_path_factory.mktemp("keys")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    found = Keys(home / "ca.pem", home / "cert.pem", home / "key.pem")
    authority.cert_pem.write_to_path(str(found.authority))
    issued.cert_chain_pems[0].write_to_path(str(found.cert))
    issued.private_key_pem.write_to_path(str(found.key))
    return found


async def test_a_client_that_trusts_the_authority_is_served(engines: Path, keys: Keys) -> None:
    model = played_model(engines)
    model.script = model.reply
    async with serving(model, tls_cert=keys.cert, tls_key=keys.key, token="secret") as server:
        async with AsyncClient(server.address, tls=keys.authority, token="secret") as client:
            assert (await client.embed("tiny", ["a"], timeout=30)).shape == (1, 16)
        async with AsyncClient(server.address, tls=True) as client:
            with pytest.raises(Unavailable):
                await client.embed("tiny", ["a"], timeout=30)


async def test_a_server_that_asks_for_a_certificate_admits_only_its_bearers(engines: Path, keys: Keys) -> None:
    model = played_model(engines)
    model.script = model.reply
    files = {"tls_cert": keys.cert, "tls_key": keys.key, "tls_client_ca": keys.authority}
    async with serving(model, **files) as server:
        async with AsyncClient(server.address, tls=keys.authority, cert=(keys.cert, keys.key)) as client:
            assert (await client.embed("tiny", ["a"], timeout=30)).shape == (1, 16)
        async with AsyncClient(server.address, tls=keys.authority) as client:
            with pytest.raises(Unavailable):
                await client.embed("tiny", ["a"], timeout=30)


def test_a_pem_file_that_is_not_there_is_named(tmp_path: Path, keys: Keys) -> None:
    gone = tmp_path / "gone.pem"
    for options in ({"tls": gone}, {"tls": str(gone)}, {"tls": True, "cert": (keys.cert, gone)}, {"tls": tmp_path}):
        with pytest.raises(InvalidInput, match=r"the PEM file cannot be read") as raised:
            AsyncClient("127.0.0.1:1", **options)
        assert str(tmp_path) in str(raised.value)


async def test_a_client_without_tls_is_told_that_the_server_wants_it(engines: Path, keys: Keys) -> None:
    async with serving(played_model(engines), tls_cert=keys.cert, tls_key=keys.key) as server:
        async with AsyncClient(server.address) as client:
            with pytest.raises(Unavailable, match=r"or it wants TLS \(tls=…\)") as raised:
                await client.embed("tiny", ["a"], timeout=30)
        assert server.address in str(raised.value)


def test_a_client_certificate_without_tls_is_a_mistake(keys: Keys) -> None:
    with pytest.raises(InvalidInput, match="needs TLS"):
        AsyncClient("127.0.0.1:1", cert=(keys.cert, keys.key))
