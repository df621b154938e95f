"""Health tells the truth, before the first model is warm until after the last call; reflection lists what is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from embedge import AsyncClient, Client, DeadlineExceeded
from embedge.serving.config import ServeConfig
from embedge.serving.server import Server
from tests.servers import PlayedModel, played_model, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHOLE = ("", "embedge.v1.Embedge", "inference.GRPCInferenceService")


class Probe:
    """A health client."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.stub: Any = health_pb2_grpc.HealthStub(self.channel)

    async def status(self, service: str = "") -> int:
        return (await self.stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    async def until(self, service: str, status: int) -> None:
        """Wait for a status, without polling."""
        watch = self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)
        async for message in watch:
            if message.status == status:
                watch.cancel()
                return
        raise AssertionError("the watch ended")

    async def __aenter__(self) -> Probe:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()


async def test_not_serving_before_the_models_are_warm(engines: Path) -> None:
    server = Server(ServeConfig(repository=engines, port=0, models=("tiny",)))
    await server.start()
    async with Probe(server.address) as probe:
        assert [await probe.status(name) for name in WHOLE] == [NOT_SERVING] * 3
        await server.load()
        assert [await probe.status(name) for name in (*WHOLE, "tiny")] == [SERVING] * 4
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await probe.status("other")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    await server.stop()


async def test_a_model_that_breaks_is_not_serving_and_neither_is_the_whole(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, Probe(server.address) as probe:
        assert await probe.status("tiny") == SERVING
        await asyncio.to_thread(model.tell, False)  # as a lane's thread tells it
        await probe.until("tiny", NOT_SERVING)
        await probe.until("", NOT_SERVING)
        await asyncio.to_thread(model.tell, True)
        await probe.until("tiny", SERVING)
        await probe.until("", SERVING)


async def test_a_server_that_drains_says_so_finishes_and_ends(engines: Path) -> None:
    model = played_model(engines)
    started = serving(model, drain_seconds=20)
    async with started as server, AsyncClient(server.address) as client, Probe(server.address) as probe:
        call = asyncio.ensure_future(client.embed("tiny", ["a"]))
        request, future = await model.call()
        stopping = asyncio.ensure_future(server.stop())
        await probe.until("", NOT_SERVING)
        await asyncio.to_thread(model.tell, True)  # what a model says now changes nothing
        assert await probe.status("tiny") == NOT_SERVING
        future.set_result(model.reply(request))
        assert (await call).shape == (1, 16)
        assert not stopping.done()
        model.drained.set_result(True)
        await asyncio.wait_for(stopping, 30)
        assert model.drains == [20]


async def test_the_client_waits_until_the_server_is_ready(engines: Path) -> None:
    model: PlayedModel = played_model(engines, serving=False)
    async with serving(model) as server, AsyncClient(server.address) as client:
        with pytest.raises(DeadlineExceeded):
            await client.wait_ready(0.05)
        waiting = [asyncio.ensure_future(client.wait_ready(30, model=name)) for name in ("", "tiny")]
        model.tell(True)
        await asyncio.gather(*waiting)


def test_the_client_waits_for_the_real_server(client: Client) -> None:
    client.wait_ready(30)
    client.wait_ready(30, model="tiny")


def test_reflection_lists_and_describes_every_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asks = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="embedge.v1.Embedge"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        listed, *described = stub.ServerReflectionInfo(iter(asks))
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*WHOLE[1:], "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    methods = set()
    for answer in described:
        [data] = answer.file_descriptor_response.file_descriptor_proto
        for service in descriptor_pb2.FileDescriptorProto.FromString(data).service:
            methods |= {method.name for method in service.method}
    assert {"Embed", "EmbedStream", "ListModels", "GetModel", "GetStats", "ModelInfer", "Check"} <= methods
