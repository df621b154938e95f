"""Probes of the compute libraries."""

from __future__ import annotations

from collections.abc import Iterator

from embedge.doctor.findings import Finding
from embedge.doctor.machine import Machine, python

__all__ = ["cuda", "cudnn", "onnxruntime", "tensorrt"]

_CUDNN_PACKAGES = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")
_KNOWN = ("10", "11")  # TensorRT majors supported by the backend
_PROVIDERS = "import onnxruntime as o; print(', '.join(o.get_available_providers()))"
# As the backend finds it: pip's before the system's. 9.12.1 is encoded as 91201.
_CUDNN = """
import contextlib, ctypes, io
import onnxruntime
if hasattr(onnxruntime, "preload_dlls"):
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls(directory="")
try:
    print(ctypes.CDLL("libcudnn.so.9").cudnnGetVersion())
except OSError as error:
    print(error)
"""


def onnxruntime(machine: Machine) -> Iterator[Finding]:
    """Report ONNX Runtime and its execution providers."""
    cpu, gpu = machine.version("onnxruntime"), machine.version("onnxruntime-gpu")
    if cpu and gpu:
        how = "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        text = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} write into one folder: either may be broken"
        yield Finding("onnxruntime", text, "warning", how)
    if not machine.finds("onnxruntime"):
        yield Finding("onnxruntime", "not installed", "missing", "pip install 'embedge[cpu]', or 'embedge[gpu]'")
        return
    providers = machine.run(python(_PROVIDERS))
    yield Finding("onnxruntime", f"{gpu or cpu or 'of unknown version'}: {providers}")


def cudnn(machine: Machine) -> Iterator[Finding]:
    """Report the cuDNN for ONNX Runtime on a GPU, and its origin."""
    if not machine.version("onnxruntime-gpu"):
        return
    told = machine.run(python(_CUDNN))
    if not told.isdigit():
        how = "pip install 'onnxruntime-gpu[cuda,cudnn]', or install cuDNN 9 for the CUDA that its release is made for"
        yield Finding("cudnn", f"onnxruntime-gpu needs cuDNN 9: {told}", "missing", how)
        return
    number = int(told)
    packages = [f"{name} {version}" for name in _CUDNN_PACKAGES if (version := machine.version(name))]
    source = ", ".join(packages) or "of the system"
    yield Finding("cudnn", f"{number // 10000}.{number // 100 % 100}.{number % 100} ({source})")


def tensorrt(machine: Machine) -> Iterator[Finding]:
    """Report TensorRT, and warn of an unknown major version."""
    if not machine.finds("tensorrt"):
        how = "sudo apt install tensorrt python3-libnvinfer, and a venv with --system-site-packages"
        how = how if machine.jetson else "pip install 'embedge[tensorrt,cuda]'"
        yield Finding("tensorrt", "not installed", "missing", how)
        return
    version = machine.version("tensorrt") or machine.run(python("import tensorrt; print(tensorrt.__version__)"))
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
    """Report the Python libraries for the CUDA driver."""
    found = {name: version for name in ("cuda-python", "cuda-bindings", "pycuda") if (version := machine.version(name))}
    if found:
        yield Finding("cuda", ", ".join(f"{name} {version}" for name, version in found.items()))
    else:
        how = "pip install 'embedge[cuda]'"
        how += " 'cuda-bindings==12.*', as JetPack 6 knows no CUDA 13" if machine.jetson.startswith("36.") else ""
        yield Finding("cuda", "neither cuda-bindings nor pycuda is installed", "missing", how)
