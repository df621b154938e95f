"""Which of our files use which library, and what in them holds it. A file that is not here is found by a test."""

from __future__ import annotations

from tests.conformance.views import View

_TRT = "tensorrt"
_PLAN = "export/embedge_export/tensorrt"
_LANE = "runtime/embedge/backends/tensorrt"

CUDA = [
    View(
        "runtime/embedge/cuda/cuda_python.py",
        "cuda.bindings.driver",
        handles=("self._api", "provider._api", "api"),
        kinds={"code": "CUresult"},
    )
]
PYCUDA = [
    View(
        "runtime/embedge/cuda/pycuda.py",
        "pycuda.driver",
        handles=("self._api",),
        kinds={
            "allocation": "PagelockedHostAllocation",
            "context": "Context",
            "gpu: device": "Device",
            "retained": "Context",
            "self._device()": "Device",
            "_PyCudaStream: made": "Stream",
            "_PyCudaStream: self.made": "Stream",
            "_PyCudaEvent: self.made": "Event",
            "_PyCudaMemory: made": "DeviceAllocation",
        },
        calls="_ask",
        own=("wanted",),
    )
]
TENSORRT = [
    View(f"{_LANE}/library.py", _TRT, handles=("trt", "tensorrt", "load()")),
    View(f"{_LANE}/engine.py", _TRT, handles=("trt", "self.trt"), kinds={"self.raw": "ICudaEngine"}),
    View(
        f"{_LANE}/executable.py",
        _TRT,
        handles=("trt",),
        kinds={"context": "IExecutionContext", "self._engine.raw": "ICudaEngine"},
    ),
    View(
        f"{_PLAN}/builder.py",
        _TRT,
        handles=("trt",),
        kinds={
            "builder": "Builder",
            "config": "IBuilderConfig",
            "network": "INetworkDefinition",
            "tensor": "ITensor",
            "cache": "ITimingCache",
        },
    ),
    View(
        f"{_PLAN}/facts.py",
        _TRT,
        handles=("trt",),
        kinds={"engine": "ICudaEngine", "spec": "embedge.bundle.manifest.TensorSpec"},
    ),
    View(f"{_PLAN}/failure.py", _TRT, handles=("trt",), kinds={"parser": "OnnxParser", "error": "ParserError"}),
    View(f"{_PLAN}/monitor.py", _TRT, handles=("trt",)),
]
_ORT = "onnxruntime"
ONNXRUNTIME = [
    View(
        "runtime/embedge/backends/onnxruntime.py",
        _ORT,
        handles=("ort", "onnxruntime"),
        kinds={
            "OnnxRuntimeSession: session": "InferenceSession",
            "OnnxRuntimeSession: self._session": "InferenceSession",
        },
    ),
    View(
        "runtime/embedge/backends/onnxruntime_cuda.py",
        _ORT,
        handles=("ort", "onnxruntime"),
        kinds={
            "session": "InferenceSession",
            "_UnboundSession: self._session": "InferenceSession",
            "_BoundExecutable: self._session": "InferenceSession",
            "_BoundExecutable: self._binding": "IOBinding",
        },
    ),
]
