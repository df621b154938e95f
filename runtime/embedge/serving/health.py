"""`grpc.health.v1` on the same port: one service name a model, and the empty name for all of them."""

from __future__ import annotations

import asyncio
from functools import partial

from grpc_health.v1 import health, health_pb2

from embedge.embedder import Embedder

__all__ = ["Health"]

_STATUS = health_pb2.HealthCheckResponse


class Health:
    """The server's health. Used on the event loop; models report from their own threads.

    The empty name and the names of the services are SERVING while every model is.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._whole = ("", *services)
        self._models: dict[str, bool] = {}
        self._draining = False
        self._loop = asyncio.get_running_loop()
        self._changes: set[asyncio.Task[None]] = set()

    async def loading(self) -> None:
        """Publish NOT_SERVING, from before the port is open until the models are watched."""
        await self._publish()

    async def watch(self, models: list[Embedder]) -> None:
        """Publish the state of these models from now on."""
        self._models = dict.fromkeys((model.name for model in models), False)
        for model in models:
            model.watch(partial(self._on_report, model.name))  # calls back at once, too
        await self._publish()

    async def drain(self) -> None:
        """Publish NOT_SERVING for good."""
        self._draining = True
        await self._publish()

    def _on_report(self, name: str, serving: bool) -> None:
        """Take a model's report; called on a thread of the model's."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._change, name, serving)

    def _change(self, name: str, serving: bool) -> None:
        self._models[name] = serving
        task = self._loop.create_task(self._publish())
        self._changes.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._changes.discard)

    async def _publish(self) -> None:
        up = {name: serving and not self._draining for name, serving in self._models.items()}
        whole = bool(up) and all(up.values())
        for name, serving in {**dict.fromkeys(self._whole, whole), **up}.items():
            await self.servicer.set(name, _STATUS.SERVING if serving else _STATUS.NOT_SERVING)
