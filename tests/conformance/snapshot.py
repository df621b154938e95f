"""Writes the snapshots in `data`: what versions that cannot be installed beside the others give to Python.

    python -m tests.conformance.snapshot tensorrt SITE    # an unpacked wheel: tensorrt-cu12-bindings 10.3.0, 10.16.1.11
    python -m tests.conformance.snapshot cuda SITE        # an unpacked wheel: cuda-bindings 12.9.1, cuda-python 12.6.2
    python -m tests.conformance.snapshot pycuda SITE      # pycuda 2026.1 as built from its sdist (build/lib.…)

All are read from the real extensions, over empty libraries where the real ones are not here. They need the Python that
the extension was made for, gcc and binutils, and no GPU. pycuda is built with CUDA's headers and its stub of libcuda:
`configure.py --no-cuda-enable-curand`, then `setup.py build_ext`.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.conformance import boost, cython, native, pybind
from tests.conformance.api import DATA, Module, write
from tests.structure.code import ROOT

app = typer.Typer(add_completion=False)
Site = Annotated[Path, typer.Argument(exists=True, file_okay=False, resolve_path=True)]


@app.command()
def tensorrt(site: Site) -> None:
    """Write everything that TensorRT's bindings have."""
    raw = _raw("tensorrt_bindings", site, "tensorrt_bindings/tensorrt.so")
    _write("tensorrt", pybind.module(raw, f"PyPI: tensorrt-cu12-bindings {raw['version']}, wheel for cp311, x86-64"))


@app.command()
def cuda(site: Site) -> None:
    """Write what cuda.bindings.driver has of the names that our code and its simulation use."""
    raw = _raw("cuda.bindings.driver", site)
    source = f"PyPI: cuda-bindings {raw['version']} (before 12.8: cuda-python), wheel for cp311, x86-64"
    _write("cuda-bindings", cython.module(raw, source, cuda_names()))


@app.command()
def pycuda(site: Site) -> None:
    """Write everything that pycuda.driver has."""
    extension = next((site / "pycuda").glob("_driver*.so")).relative_to(site)
    raw = _raw("pycuda.driver", site, str(extension))
    _write("pycuda", boost.module(raw, f"PyPI: pycuda {raw['version']}, sdist, built with CUDA 13.0"))


def cuda_names() -> set[str]:
    """Return whatever looks like a name of the driver API in our code and its simulation."""
    files = [*(ROOT / "runtime/embedge/cuda").glob("*.py"), *(ROOT / "tests/simulated").glob("*.py")]
    return {name for path in files for name in re.findall(r"\b(?:cu[A-Z]|CU)\w+", path.read_text(encoding="utf-8"))}


def _raw(module: str, site: Path, extension: str = "") -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        return native.read(module, Path(folder), site / extension if extension else None, site)


def _write(name: str, module: Module) -> None:
    path = DATA / f"{name}-{module.version}.json"
    write(module, path)
    typer.echo(f"{path}: {len(module.classes)} classes, {len(module.functions)} functions")


if __name__ == "__main__":
    app()
