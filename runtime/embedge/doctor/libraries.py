"""Probes of what computes: driver, GPUs, and the libraries that reach them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from embedge.doctor.findings import Finding
from embedge.doctor.machine import Machine

__all__ = ["cuda", "gpus", "onnxruntime", "tensorrt"]

_KNOWN = ("10", "11")  # majors of TensorRT that the backend was written for
# Least drivers of CUDA 12 and 13 on servers: NVIDIA's CUDA release notes, table "minimum required driver versions".
_DRIVERS = ((525, 12), (580, 13))
_GPU_FACTS = "index,name,compute_cap,driver_version,memory.free,memory.total"
_PROVIDERS = "import onnxruntime as o; print(', '.join(o.get_available_providers()))"


def gpus(machine: Machine) -> Iterator[Finding]:
    """Tell the driver and the GPUs, and who takes their memory. A Jetson's driver comes with JetPack."""
    if machine.jetson:
        return
    try:
        lines = machine.run(["nvidia-smi", f"--query-gpu={_GPU_FACTS}", "--format=csv,noheader,nounits"]).splitlines()
    except FileNotFoundError:
        how = "with an NVIDIA GPU, install its driver: 580 or newer for CUDA 13"
        yield Finding("gpu", "no NVIDIA driver is here", "missing", how)
        return
    for line in lines:
        index, name, capability, driver, free, total = (word.strip() for word in line.split(","))
        yield Finding("gpu", f"{index}: {name}, SM {capability}, {free} of {total} MiB free, driver {driver}")
        yield from _old(driver)
    users = machine.run(["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"])
    for line in users.splitlines():
        yield Finding("gpu", f"used by {line.strip()}")


def _old(driver: str) -> Iterator[Finding]:
    major = int(driver.partition(".")[0])
    for least, version in _DRIVERS:
        if major < least:
            text = f"driver {driver} is too old for libraries of CUDA {version}, which need {least} or newer"
            yield Finding("driver", text, "warning", f"install driver {least} or newer")
            return


def onnxruntime(machine: Machine) -> Iterator[Finding]:
    """Tell which ONNX Runtime is here, and what it can run on."""
    cpu, gpu = machine.version("onnxruntime"), machine.version("onnxruntime-gpu")
    if cpu and gpu:
        how = "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        text = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} write into one folder: either may be broken"
        yield Finding("onnxruntime", text, "warning", how)
    if not machine.finds("onnxruntime"):
        yield Finding("onnxruntime", "not installed", "missing", "pip install 'embedge[cpu]', or 'embedge[gpu]'")
        return
    providers = machine.run([sys.executable, "-c", _PROVIDERS])
    yield Finding("onnxruntime", f"{gpu or cpu or 'of unknown version'}: {providers}")


def tensorrt(machine: Machine) -> Iterator[Finding]:
    """Tell whether TensorRT is here, and whether its major is known."""
    if not machine.finds("tensorrt"):
        how = "sudo apt install tensorrt python3-libnvinfer, and a venv with --system-site-packages"
        how = how if machine.jetson else "pip install 'embedge[tensorrt,cuda]'"
        yield Finding("tensorrt", "not installed", "missing", how)
        return
    version = machine.version("tensorrt") or machine.run(
        [sys.executable, "-c", "import tensorrt; print(tensorrt.__version__)"]
    )
    major = ".".join(version.split(".")[:2])
    if version.split(".")[0] not in _KNOWN:
        known = " and ".join(_KNOWN)
        yield Finding("tensorrt", f"{version} is of an unknown major", "warning", f"majors {known} are known")
    elif machine.jetson and major in ("10.3", "10.4", "10.13"):
        text = f"{version} is known to compute some encoders wrongly"
        yield Finding("tensorrt", text, "warning", "plans are proven on the device before they serve: embedge build")
    else:
        yield Finding("tensorrt", version)


def cuda(machine: Machine) -> Iterator[Finding]:
    """Tell which library reaches the CUDA driver."""
    found = {name: version for name in ("cuda-python", "cuda-bindings", "pycuda") if (version := machine.version(name))}
    if found:
        yield Finding("cuda", ", ".join(f"{name} {version}" for name, version in found.items()))
    else:
        yield Finding("cuda", "neither cuda-python nor pycuda is installed", "missing", "pip install 'embedge[cuda]'")
