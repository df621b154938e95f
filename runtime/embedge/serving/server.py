"""One server: the port is bound first, the models come next, and the last admitted call is answered before the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from embedge.cancel import CancelToken
from embedge.embedder import Embedder
from embedge.errors import Unavailable
from embedge.oip import grpc_service_pb2 as oip_pb2
from embedge.repository import Repository
from embedge.serving import oip, servicer
from embedge.serving.config import ServeConfig
from embedge.serving.health import Health
from embedge.serving.interceptors import TokenInterceptor
from embedge.serving.models import Models
from embedge.v1 import embedge_pb2

__all__ = ["Server"]

log = logging.getLogger("embedge.serving")

# After all work is done: time for replies to leave. Idle streams are ended after it.
_FLUSH_SECONDS = 1.0
# After that: time for lanes to end if draining left none. A hung lane must not keep the process alive.
_CLOSE_SECONDS = 1.0


class Server:
    """Made, started, loaded and stopped on one event loop, in this order.

    address: `host:port` as bound, once started.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.address = ""
        self.models = Models()
        self._opening = CancelToken()
        self._health = Health((servicer.SERVICE, oip.SERVICE))
        self._grpc = self._assemble()

    async def start(self) -> None:
        """Bind the port and answer health, with NOT_SERVING. Raises Unavailable if the port is taken."""
        await self._health.loading()
        self.address = self._bind()
        await self._grpc.start()

    async def load(self) -> None:
        """Open and warm up the models, then serve them.

        Raises:
            BundleError: A bundle is damaged.
            NotFound: A named model is missing.
            BackendError: A model can't run here.
            Unavailable: No backend can run here, or `give_up` was called.
        """
        config = self.config
        repository = await asyncio.to_thread(
            Repository.open, config.repository, config=config.runtime, models=config.models, cancel=self._opening
        )
        await self.serve(repository)

    def give_up(self) -> None:
        """Have `load` end soon: it opens no more models, and builds no plans."""
        self._opening.cancel()

    async def serve(self, repository: Repository) -> None:
        """Serve the models of an open repository, and take ownership of it."""
        self.models.repository = repository
        await self._health.watch(self.models.all())

    async def stop(self) -> None:
        """Publish NOT_SERVING, finish and answer the admitted work, and free everything but hung lanes."""
        await self._health.drain()
        end = time.monotonic() + self.config.drain_seconds
        models = self.models.all() if self.models.repository else []
        await asyncio.gather(*(self._drain(model) for model in models))
        await self._grpc.stop(_FLUSH_SECONDS)
        left = max(_CLOSE_SECONDS, end - time.monotonic())
        await asyncio.gather(*(asyncio.to_thread(model.close, left) for model in models))

    async def _drain(self, model: Embedder) -> None:
        if not await asyncio.to_thread(model.drain, self.config.drain_seconds):
            log.warning("%s: work was left after %g s of draining", model.name, self.config.drain_seconds)

    def _assemble(self) -> grpc.aio.Server:
        config = self.config
        options = [
            ("grpc.so_reuseport", 0),  # or a second server on this port would silently take half of the calls
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),  # replies are measured where they are made, with a better message
            # A vanished client is noticed within 80 s, and its work dropped.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]
        server = grpc.aio.server(
            interceptors=[TokenInterceptor(config.token)] if config.token else [],
            options=options,
        )
        ours = servicer.EmbedgeServicer(
            self.models, stream_in_flight=config.stream_in_flight, max_message_bytes=config.max_message_bytes
        )
        theirs = oip.OipServicer(self.models, max_message_bytes=config.max_message_bytes)
        server.add_generic_rpc_handlers((ours.handler(), theirs.handler()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        _reflect(server)
        return server

    def _bind(self) -> str:
        config, port = self.config, 0
        host = f"[{config.host}]" if ":" in config.host else config.host
        with contextlib.suppress(RuntimeError):  # by its version gRPC raises, or returns port 0
            if credentials := _credentials(config):
                port = self._grpc.add_secure_port(f"{host}:{config.port}", credentials)
            else:
                port = self._grpc.add_insecure_port(f"{host}:{config.port}")
        if not port:
            raise Unavailable(
                f"cannot listen on {host}:{config.port}: another program has the port, this machine has no such "
                "address, or the TLS files do not fit; choose with --port and --host"
            )
        return f"{host}:{port}"


def _credentials(config: ServeConfig) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
    client_ca = config.tls_client_ca.read_bytes() if config.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _reflect(server: grpc.aio.Server) -> None:
    """Answer reflection from a separate pool, as the default pool lacks the Open Inference Protocol's messages."""
    pool = DescriptorPool()
    for module in (health_pb2, reflection_pb2, embedge_pb2, oip_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (servicer.SERVICE, oip.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=pool)
