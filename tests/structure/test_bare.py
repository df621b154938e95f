"""With the base dependencies and `cpu` only, the in-process path works and so does every `--help`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.code import ROOT
from tests.tiny import tiny_bundle

HEAVY = (
    *("torch", "transformers", "sentence_transformers", "onnx", "onnxscript", "grpc", "google.protobuf", "pyarrow"),
    *("PIL", "soundfile", "soxr", "av"),
)

EMBED = """
import sys
from importlib.util import find_spec
import embedge
assert not {"onnxruntime", "grpc", "tokenizers", "numpy"} & set(sys.modules), "import embedge did work"
assert not [name for name in sys.argv[2:] if "." not in name and find_spec(name)], "the environment is not bare"
with embedge.Embedder.open(sys.argv[1]) as embedder:
    vectors = embedder.embed(["a red bicycle", "the sea"])
print(*vectors.shape)
"""

HELP = """
import sys
from importlib.metadata import entry_points
from typer.main import get_command
from typer.testing import CliRunner
from embedge import cli
for entry in entry_points(group="embedge.commands"):
    cli._join(entry)
names = sorted(get_command(cli.app).commands)
for name in [[]] + [[name] for name in names]:
    result = CliRunner().invoke(cli.app, [*name, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, (name, result.output, result.exception)
    assert "Cannot be loaded" not in result.output, result.output
print(*names)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")


def run_bare(site: Path, environment: dict[str, str], script: str, *args: str) -> str:
    """Run a script that sees the standard library and `site`, and nothing else."""
    command = [sys.executable, "-S", "-c", script, *args]
    done = subprocess.run(command, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_embeds_with_base_and_cpu_only(bare_site: Path, clean_environment: dict[str, str], bundle: Path) -> None:
    assert run_bare(bare_site, clean_environment, EMBED, str(bundle), *HEAVY).split()[0] == "2"


def test_every_help_works_with_base_only(bare_site: Path, clean_environment: dict[str, str]) -> None:
    shown = run_bare(bare_site, clean_environment, HELP).split()
    assert {"embed", "export", "inspect", "serve", "verify"} <= set(shown)


@pytest.mark.parametrize(
    "command", [["serve", "nowhere"], ["embed", "minilm", "--server", "localhost:1"], ["export", "nowhere"]]
)
def test_missing_extra_is_one_line_that_names_it(
    bare_site: Path, clean_environment: dict[str, str], command: list[str]
) -> None:
    script = "import sys; from embedge.cli import main; sys.argv[0] = 'embedge'; main()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, *command],
        env=clean_environment | {"PYTHONPATH": str(bare_site)},
        input="a line\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("embedge: ")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'embedge[" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_true_install_of_the_wheel(
    wheel: Path, tmp_path: Path, clean_environment: dict[str, str], bundle: Path
) -> None:
    """The same with a real environment and pip. The only test that asks the package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    quiet = {name: value for name, value in clean_environment.items() if name != "PYTHONWARNINGS"}
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"]
    subprocess.run(install, check=True, env=quiet, cwd=tmp_path)
    done = subprocess.run([python, "-c", EMBED, bundle, *HEAVY], env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = subprocess.run([tmp_path / "venv" / "bin" / "embedge", "inspect", "--json", bundle], env=quiet, check=True)
    assert told.returncode == 0
