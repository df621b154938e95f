"""Messages for a GPU that can't be used: why, and what to do."""

from __future__ import annotations

import os

__all__ = ["NO_DRIVER", "no_device", "out_of_host_memory", "out_of_memory", "refused", "too_old", "version"]

_CONTAINER = "in a container, start it with --gpus all, on a Jetson with --runtime nvidia"

NO_DRIVER = (
    "there is no NVIDIA driver (libcuda.so.1 cannot be loaded): install it, and see with nvidia-smi that it runs; "
    + _CONTAINER
)

# What to do if the driver doesn't start, for errors whose own message doesn't help.
_ADVICE = {
    "CUDA_ERROR_STUB_LIBRARY": "a stub of libcuda.so.1 is found before the driver: take its folder, which is named "
    "stubs, out of LD_LIBRARY_PATH",
    "CUDA_ERROR_OPERATING_SYSTEM": f"the devices /dev/nvidia* cannot be opened: {_CONTAINER}; else join their group",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "libcuda.so.1 and the kernel's module are of different versions: restart "
    "the machine after an update of the driver; a container may bring a libcuda.so.1 of its own",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "the package cuda-compat does not support this GPU: remove it, or "
    "update the driver",
    "CUDA_ERROR_SYSTEM_NOT_READY": "the machine's fabric manager does not run yet: start nvidia-fabricmanager",
    "CUDA_ERROR_UNKNOWN": "the driver does not start: see dmesg, and with nvidia-smi whether it runs at all",
}


def refused(code: str, words: str) -> str:
    """Return why the driver doesn't start, from CUDA's error code and message."""
    if code in ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"):  # the latter: CUDA_VISIBLE_DEVICES is malformed
        return no_device(0, 0)
    return f"the NVIDIA driver does not start: {words} ({code})" + (f"; {_ADVICE[code]}" if code in _ADVICE else "")


def no_device(index: int, count: int) -> str:
    """Return why GPU `index` doesn't exist for a process that sees `count` GPUs."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if count:
        limits = "" if shown is None else f", as CUDA_VISIBLE_DEVICES={shown} lets it"
        return f"there is no GPU {index}: this process sees {count}, counted from 0{limits}; choose one with `gpu`"
    if shown is None:
        return f"the NVIDIA driver sees no GPU: see with nvidia-smi what there is; {_CONTAINER}"
    return f"no GPU is visible: CUDA_VISIBLE_DEVICES={shown}; unset it, or name a GPU that `nvidia-smi -L` lists"


def too_old(library: str, needed: int, driver: int, way_out: str) -> str:
    """Return that the driver is too old for a library.

    Args:
        library: Name and version.
        needed: The CUDA version it was built for, 12060 for 12.6.
        driver: The CUDA version that the driver supports.
        way_out: What to do instead of updating the driver.
    """
    said = f"the NVIDIA driver supports CUDA {version(driver)}, and {library} is for CUDA {needed // 1000}"
    return f"{said}: update the driver, or {way_out}"


def out_of_memory(wanted: int, free: int, total: int, *, integrated: bool) -> str:
    """Return that GPU memory ran out, and how to find what uses it. All sizes in bytes."""
    tool = "tegrastats and top (CPU and GPU share the memory)" if integrated else "nvidia-smi"
    return (
        f"{_size(wanted)} are asked for; {_size(free)} of {_size(total)} are free. See with {tool} who has the rest; "
        "fewer lanes, a smaller max_batch_tokens or small_memory need less"
    )


def out_of_host_memory(wanted: int) -> str:
    """Return that `wanted` bytes of page-locked memory could not be allocated."""
    return (
        f"{_size(wanted)} of page-locked memory of the host are not to be had: see with `free -h` what is available; "
        "fewer lanes, a smaller batches_in_flight or small_memory need less"
    )


def version(cuda: int) -> str:
    """Return a CUDA version as a string: "12.6" for 12060."""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**28 else f"{nbytes / 2**20:.1f} MiB"
