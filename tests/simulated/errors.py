"""What goes wrong in the simulated CUDA: errors that the real one returns too, and rules that it does not check."""

from __future__ import annotations

__all__ = ["TEXTS", "Failure", "Violation"]

# As cuGetErrorString says them, and as the libraries of CUDA 13.0 hold them. pycuda shows these words and no code.
_WORDS = """
SUCCESS: no error
ERROR_INVALID_VALUE: invalid argument
ERROR_OUT_OF_MEMORY: out of memory
ERROR_NOT_INITIALIZED: initialization error
ERROR_DEINITIALIZED: driver shutting down
ERROR_STUB_LIBRARY: CUDA driver is a stub library
ERROR_CALL_REQUIRES_NEWER_DRIVER: API call is not supported in the installed CUDA driver
ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy or unavailable
ERROR_NO_DEVICE: no CUDA-capable device is detected
ERROR_INVALID_DEVICE: invalid device ordinal
ERROR_INVALID_CONTEXT: invalid device context
ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered
ERROR_NVLINK_UNCORRECTABLE: uncorrectable NVLink error detected during the execution
ERROR_CONTAINED: Invalid access of peer GPU memory over nvlink or a hardware error
ERROR_OPERATING_SYSTEM: OS call failed or operation not supported on this OS
ERROR_INVALID_HANDLE: invalid resource handle
ERROR_ILLEGAL_STATE: the operation cannot be performed in the present state
ERROR_NOT_FOUND: named symbol not found
ERROR_NOT_READY: device not ready
ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered
ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch
ERROR_LAUNCH_TIMEOUT: the launch timed out and was terminated
ERROR_CONTEXT_IS_DESTROYED: context is destroyed
ERROR_ASSERT: device-side assert triggered
ERROR_HARDWARE_STACK_ERROR: hardware stack error
ERROR_ILLEGAL_INSTRUCTION: an illegal instruction was encountered
ERROR_MISALIGNED_ADDRESS: misaligned address
ERROR_INVALID_ADDRESS_SPACE: operation not supported on global/shared address space
ERROR_INVALID_PC: invalid program counter
ERROR_LAUNCH_FAILED: unspecified launch failure
ERROR_TENSOR_MEMORY_LEAK: tensor memory not completely freed
ERROR_NOT_PERMITTED: operation not permitted
ERROR_NOT_SUPPORTED: operation not supported
ERROR_SYSTEM_NOT_READY: system not yet initialized
ERROR_SYSTEM_DRIVER_MISMATCH: system has unsupported display driver / cuda driver combination
ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE: forward compatibility was attempted on non supported HW
ERROR_MPS_CLIENT_TERMINATED: the MPS client has been terminated by the server
ERROR_STREAM_CAPTURE_UNSUPPORTED: operation not permitted when stream is capturing
ERROR_STREAM_CAPTURE_INVALIDATED: operation failed due to a previous error during capture
ERROR_STREAM_CAPTURE_ISOLATION: dependency created on uncaptured work in another stream
ERROR_CAPTURED_EVENT: operation not permitted on an event last recorded in a capturing stream
ERROR_STREAM_CAPTURE_WRONG_THREAD: attempt to terminate a thread-local capture sequence from another thread
ERROR_EXTERNAL_DEVICE: an async error has occured in external entity outside of CUDA
ERROR_UNKNOWN: unknown error
"""
TEXTS = {f"CUDA_{code}": words for code, words in (line.split(": ", 1) for line in _WORDS.strip().splitlines())}


class Failure(Exception):
    """A call fails as it would on a real GPU. code: the member of CUresult."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message or TEXTS.get(code, '')}")
        self.code = code


class Violation(AssertionError):
    """A rule was broken that a real GPU may punish with wrong numbers only. Always in `Machine.violations`, too."""
