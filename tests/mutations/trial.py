"""A trial: the tests, run in a copy of the checkout that has one mutant in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.mutants import PACKAGE, ROOT, Mutant
from tests.mutations.witness import CURRENT

__all__ = ["Copy", "Verdict", "copied"]

_PARTS = ("runtime", "export", "benchmarks", "tests")
_HANGS = 15  # seconds that one test may take: none of these needs three
_ENDS = 400  # seconds that all of them may take

# The tests that kill most mutants of a part, the quickest first. The first failure ends a trial.
_LANES = (
    "test_ordering.py",
    "test_ordering_pool.py",
    "test_pipeline.py",
    "test_watchdog.py",
    "test_watchdog_opening.py",
    "test_lane.py",
    "test_lane_split.py",
)
_GPU = (
    "test_ordering_streams.py",
    "test_ordering_gpu.py",
    "test_gpu_session_faults.py",
    "test_cuda_graphs.py",
    "test_gpu_session_trace.py",
    "test_gpu_session.py",
    "cuda/test_context.py",
    "cuda/test_broken.py",
    "cuda/test_threads.py",
    "test_onnxruntime_cuda.py",
    "test_tensorrt.py",
)
_REST = ("test_ordering_scheduler.py", "test_preparer.py", "test_embedder.py")
# They start processes, which takes seconds, and kill no mutant that the others do not.
_WITHOUT = (
    "test_tensorrt.py::test_embedding_gives_the_processors_vectors",
    "test_tensorrt.py::test_a_plan_that_does_not_fit_is_built_anew",
    "test_tensorrt.py::test_what_the_gate_refused_leaves_the_model_to_another_backend",
)

_PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-p", "tests.mutations.witness", f"--timeout={_HANGS}", "--timeout-method=thread"),
)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. test: the one that failed; "" if none did. hung: it did not come to an end."""

    test: str
    hung: bool = False
    told: str = ""

    @property
    def killed(self) -> bool:
        """Whether a test noticed."""
        return bool(self.test)


@dataclass(frozen=True)
class Copy:
    """A copy of the checkout, used by one thread."""

    path: Path

    def check(self, files: Iterable[str]) -> Verdict:
        """Run the tests about these files as they are, which compiles what is imported, too."""
        return self._test(tuple(dict.fromkeys(test for file in files for test in _tests(file))), keep=True)

    def run(self, mutant: Mutant, known: str = "") -> Verdict:
        """Run the tests with a mutant: first the one that is known to fail for it, then all of them."""
        file = self.path / PACKAGE / mutant.file
        source, facts = file.read_bytes(), file.stat()
        file.write_bytes(mutant.apply(source))
        try:
            # A known test that is no longer there fails as well, but under no name.
            if known and (verdict := self._test((known,), keep=False)).test == known:
                return verdict
            return self._test(_tests(mutant.file), keep=False)
        finally:
            file.write_bytes(source)
            os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # or what was compiled of it is thrown away

    def _test(self, tests: tuple[str, ...], *, keep: bool) -> Verdict:
        current = self.path / "current"
        current.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(self.path / part) for part in _PARTS[:3]),
            CURRENT: str(current),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.path / "hypothesis"),
            **({} if keep else {"PYTHONDONTWRITEBYTECODE": "1"}),
        }
        try:
            done = subprocess.run(
                self._command(tests),
                cwd=self.path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_ENDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(_short(current), hung=True)
        if not done.returncode:
            return Verdict("")
        told = done.stdout + done.stderr
        return Verdict(_short(current), hung="+++ Timeout +++" in told, told=told)

    def _command(self, tests: tuple[str, ...]) -> list[str]:
        here = self.path / "tests" / "runtime"
        without = [f"--deselect=tests/runtime/{each}" for each in _WITHOUT]
        return [*_PYTEST, *without, *(str(here / each) for each in tests)]


def copied(path: Path) -> Copy:
    """Copy what the tests need of the checkout to a folder."""
    for part in _PARTS:
        shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__", "build"))
    shutil.copy2(ROOT / "pyproject.toml", path)
    return Copy(path)


def _tests(file: str) -> tuple[str, ...]:
    """Return the tests that a file's mutants are tried with, those about it first."""
    if file.startswith("cuda"):
        return ("cuda", *_GPU)
    if file.startswith("backends"):
        return _GPU
    return (*_REST, *_LANES) if file.startswith("scheduling") else _LANES


def _short(current: Path) -> str:
    """Return the test's name, without its folder."""
    return current.read_text(encoding="utf-8").removeprefix("tests/runtime/") if current.exists() else "collecting"
