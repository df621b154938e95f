"""Settings of the runtime. None means: measured or derived at start."""

from __future__ import annotations

import operator
import os
from typing import Annotated, Any, Literal

import msgspec

from embedge.errors import InvalidInput

__all__ = ["RuntimeConfig", "checked"]

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model runs in this process.

    backend: `auto`, or a backend's name (see `embedge.backends`).
    towers: names of the towers to load, with their graphs only. None: all.
    lanes, threads: execution slots, and compute threads of each. None: chosen for this machine.
    lengths: the lengths at which batches are measured, of every tower whose items differ in length, up to its limit.
        None: the bundle's buckets.
    max_batch_tokens: most padded tokens (rows x longest row) in one batch. None: the backend's (2,048 on a CPU).
    max_batch_size: most rows in one batch.
    max_queue_items: admission refuses a call when more items than this would wait.
    max_queue_bytes: and when their prepared arrays would have more bytes, as predicted. Large calls are prepared no
        further while a quarter of it waits for lanes.
    max_queue_seconds: admission refuses a call when more predicted work than this would wait.
    max_text_bytes: longest text accepted at all, in UTF-8 bytes; the model's own limit in tokens comes after it.
    max_media_bytes: largest encoded image, clip or video, or array of pixels or samples, accepted at all.
    max_image_pixels: largest image, and frame of a video, as it says before it is decoded.
    max_wait_us: how long a free lane may wait for company, in microseconds.
    prepare_threads: threads that turn raw parts into arrays.
    warm_up_seconds: time for measuring the cost table at start; 0: measure nothing, learn as batches run.
    hang_seconds: a lane that is this much longer in one batch than ten times what was predicted counts as hung: who
        waits for it is told, and another lane takes its place. A step of opening its sessions has ten times as long.
        None: the backend's (30 on a GPU, 600 on a CPU).
    gpu: number of the GPU, as the driver counts.
    cuda: what calls the CUDA driver: `auto`, `cuda-python` or `pycuda`.
    batches_in_flight: batches that a GPU lane has memory for between preparing and results. None: 2.
    scratch_bytes: GPU memory that graphs of one lane may use while they compute. None: a share of what the GPU has.
    small_memory: whether to take less GPU memory at the price of speed. None: where the GPU has little.
    cuda_graphs: most batch shapes whose launches a GPU lane records and replays; 0: none.
    build_plans: whether to build TensorRT plans that are missing, which takes minutes; else the next backend runs.
    trust_plans: files of ed25519 public keys; plans that were built elsewhere are taken if one of them signed.
    """

    backend: str = "auto"
    towers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None
    lanes: _Positive | None = None
    threads: _Positive | None = None
    lengths: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1)] | None = None
    max_batch_tokens: _Positive | None = None
    max_batch_size: _Positive = 64
    max_queue_items: _Positive = 32768
    max_queue_bytes: _Positive = 1 << 30
    max_queue_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    max_text_bytes: _Positive = 2 << 20
    max_media_bytes: _Positive = 64 << 20
    max_image_pixels: _Positive = 64_000_000
    max_wait_us: Annotated[int, msgspec.Meta(ge=0)] = 0
    prepare_threads: _Positive = 2
    warm_up_seconds: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    hang_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    gpu: Annotated[int, msgspec.Meta(ge=0)] = 0
    cuda: Literal["auto", "cuda-python", "pycuda"] = "auto"
    batches_in_flight: Annotated[int, msgspec.Meta(ge=2, le=3)] | None = None
    scratch_bytes: _Positive | None = None
    small_memory: bool | None = None
    cuda_graphs: Annotated[int, msgspec.Meta(ge=0)] = 32
    build_plans: bool = True
    trust_plans: tuple[str, ...] = ()


def checked(config: RuntimeConfig) -> RuntimeConfig:
    """Return settings that were made in Python, where nobody looked at them, with types and limits as from a file.

    Paths become texts. Raises InvalidInput.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(config, enc_hook=_plain), RuntimeConfig)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(f"RuntimeConfig: {error}") from error


def _plain(value: Any) -> int | str | bytes:
    """Return NumPy's whole numbers and paths as what they mean. Raises TypeError for anything else."""
    return operator.index(value) if hasattr(value, "__index__") else os.fspath(value)
