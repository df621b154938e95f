"""Settings of the runtime. None means measured or derived at start."""

from __future__ import annotations

import operator
import os
from typing import Annotated, Any, Literal

import msgspec

from embedge.errors import InvalidInput

__all__ = ["RuntimeConfig", "checked", "renamed"]

_RENAMED = {
    "captures": "cuda_graphs",
    "max_batch": "max_batch_size",
    "staging": "batches_in_flight",
    "token_budget": "max_batch_tokens",
}

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model runs in this process.

    Attributes:
        backend: A backend's name (see `embedge.backends`), or `auto` for the best one here.
        towers: Names of the towers to load. None loads all.
        lanes: Number of lanes, which run batches side by side. None chooses for this machine.
        threads: Compute threads of each lane. None chooses for this machine.
        lengths: Lengths, up to each tower's limit, at which start-up measures batches of towers whose items vary in
            length. None takes the bundle's buckets.
        max_batch_tokens: Most padded tokens in a batch (rows times the longest row). None takes the backend's value,
            2,048 on a CPU.
        max_batch_size: Most rows in a batch.
        max_queue_items: Most items that wait. A call that would exceed it is refused with `Overloaded`.
        max_queue_bytes: Most bytes of prepared arrays that wait, as predicted; a call that would exceed it is refused.
            Preparation of large calls pauses while a quarter of it waits for lanes.
        max_queue_seconds: Most predicted work that waits, in seconds. A call that would exceed it is refused.
        max_text_bytes: Longest string accepted, in UTF-8 bytes. The model's own limit in tokens applies after it.
        max_media_bytes: Largest encoded image, clip or video, or array of pixels or samples, in bytes.
        max_image_pixels: Largest image or video frame, in pixels, read from the header before decoding.
        max_wait_us: How long a free lane waits for more items to batch, in microseconds. 0 doesn't wait.
        prepare_threads: Threads that turn items into arrays.
        warm_up_seconds: Time for measuring the cost table at start, in seconds. 0 skips it, and the table is learned
            from the batches that run.
        hang_seconds: A lane hangs once a batch takes ten times its predicted time plus this, in seconds: its calls
            fail, and another lane replaces it. Each step of opening a lane has ten times as long. None takes the
            backend's value, 30 on a GPU and 600 on a CPU.
        gpu: Index of the GPU, in the driver's order.
        cuda: The package that calls the CUDA driver: `auto`, `cuda-python` or `pycuda`.
        batches_in_flight: Batches that a GPU lane holds in memory between preparation and results, 2 or 3. None is 2.
        scratch_bytes: GPU memory for the intermediate results of one lane, in bytes. None takes a share of the GPU's.
        small_memory: Whether to save GPU memory at the price of speed. None does so on GPUs with little memory.
        cuda_graphs: Most batch shapes that a GPU lane records as CUDA graphs and replays. 0 disables it.
        build_plans: Whether to build missing TensorRT plans at start, which takes minutes. If False, a model without
            plans runs on the next backend.
        trust_plans: Paths of ed25519 public keys, PEM. Plans built elsewhere are used if one of the keys signed them.
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


def renamed(name: str) -> str | None:
    """Return a hint such as "max_batch is now max_batch_size" for the old name of a setting, or None."""
    return f"{name} is now {_RENAMED[name]}" if name in _RENAMED else None


def checked(config: RuntimeConfig) -> RuntimeConfig:
    """Check the types and ranges of settings made in Python, as those of a file are; paths become strings.

    Raises:
        InvalidInput: A setting is wrong.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(config, enc_hook=_plain), RuntimeConfig)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(f"RuntimeConfig: {error}") from error


def _plain(value: Any) -> int | str | bytes:
    """Convert NumPy integers and paths. Raises TypeError for anything else."""
    return operator.index(value) if hasattr(value, "__index__") else os.fspath(value)
