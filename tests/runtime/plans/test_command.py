"""`embedge build`: plans built and shown, signed copies, the cache listed and pruned, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from rich.console import Console

from embedge import Bundle, RuntimeConfig, cli
from embedge.backends.tensorrt.plans import build, shipped
from embedge.backends.tensorrt.plans.prune import prune
from embedge.backends.tensorrt.plans.signature import Trust
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.commands import build as command
from embedge.errors import Unavailable
from tests.runtime.plans.made import DEVICE, STANDIN, kept, key, keys, record
from tests.runtime.plans.test_signature import write, write_public
from tests.structure.code import ROOT

SCRIPTED = """
import os, sys
from embedge import cli
from embedge.commands import build as command
from embedge.backends.tensorrt.plans import build
from tests.runtime.plans.made import STANDIN, keys
command._keys = lambda bundle, config: keys()
build.COMMAND = (sys.executable, str(STANDIN), '{"text": "hang"}')
sys.exit(cli._run(["build", sys.argv[1]]))
"""


@pytest.fixture
def cache(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> PlanStore:
    """The store that the command uses."""
    monkeypatch.setenv("EMBEDGE_CACHE", str(store.root.parent))
    monkeypatch.setattr(command, "console", Console(width=240))
    return store


def script(monkeypatch: pytest.MonkeyPatch, **acts: str) -> None:
    """Let the command want two plans, and the stand-in build them."""
    monkeypatch.setattr(command, "_keys", lambda bundle, config: keys("text", "image"))
    monkeypatch.setattr(build, "COMMAND", (sys.executable, str(STANDIN), json.dumps(acts)))


def test_plans_are_built_and_shown(
    cache: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(monkeypatch, text="noisy")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    assert cli._run(["build", str(bundle.path)]) == 0
    told = capsys.readouterr()
    assert "Plans of tiny 1" in told.out
    assert told.out.count("good") == 2
    assert "cosine 0.999" in told.out
    assert "a tactic was skipped" in told.err
    assert "text: building" in told.err
    assert cache.find(keys()["text"]) is not None


def test_without_a_terminal_there_are_lines(
    cache: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    script(monkeypatch)

    assert cli._run(["build", str(bundle.path)]) == 0
    assert "graph 'text': building its plan: building, step 1 of 2" in caplog.text


def test_a_refusal_is_exit_code_1_until_it_is_forced(
    cache: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(monkeypatch, text="refuse")
    assert run_exit(["build", str(bundle.path)]) == 1
    told = capsys.readouterr().out
    assert "cosine 0.42 < 0.999 at 1 x 8" in told
    assert "refused: text; the model runs on another backend; --force tries again" in told

    script(monkeypatch)
    assert run_exit(["build", str(bundle.path)]) == 1
    assert run_exit(["build", str(bundle.path), "--force"]) == 0


def run_exit(args: list[str]) -> int:
    """Return the exit code of a command, whichever way it ends."""
    try:
        return cli._run(args)
    except SystemExit as error:
        return int(error.code or 0)


def test_a_build_that_dies_is_one_line(
    cache: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(monkeypatch, image="die:SIGKILL")

    assert cli._run(["build", str(bundle.path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("embedge: graph 'image': the process building its plan was killed")


def test_signed_copies_are_taken_elsewhere(
    cache: PlanStore,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(monkeypatch)
    private = write(Ed25519PrivateKey.generate(), tmp_path / "key.pem")
    options = ["--sign", str(private), "--out", str(tmp_path / "out")]

    assert cli._run(["build", str(bundle.path), *options]) == 0
    assert capsys.readouterr().out.count("signed, in ") == 2
    plan = shipped.find(tmp_path / "out", keys()["text"], Trust([write_public(private)]))
    assert plan is not None
    assert plan.read() == b"plan of text"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "name a BUNDLE"),
        (["bundle", "--sign", "key"], "both --sign and --out"),
        (["bundle", "--out", "dir"], "both --sign and --out"),
        (["bundle", "--sign", "nowhere.pem", "--out", "dir"], "nowhere.pem: cannot be read"),
        (["nowhere"], "nowhere: no such directory"),
        (["bundle", "--gpu", "-1"], "gpu"),
        (["bundle", "--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(
    cache: PlanStore, args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run(["build", *args]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not cache.root.exists()


def test_settings_of_a_server_are_taken(
    cache: PlanStore, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RuntimeConfig] = []

    def none(bundle: Bundle, config: RuntimeConfig) -> None:
        asked.append(config)
        raise Unavailable("enough")

    monkeypatch.setattr(command, "_keys", none)
    (tmp_path / "serve.toml").write_text("[runtime]\nmax_batch_size = 7\ngpu = 1\n")
    options = ["--config", str(tmp_path / "serve.toml"), "--gpu", "2", "--tower", "text"]

    assert cli._run(["build", str(bundle.path), *options]) == 2
    assert asked == [RuntimeConfig(backend="tensorrt", max_batch_size=7, gpu=2, towers=("text",))]


def test_a_model_is_what_its_towers_need(bundle: Bundle) -> None:
    model = command._model(bundle, RuntimeConfig())

    assert model.graphs == ("encoder",)
    assert list(model.probes.towers) == ["text"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_its_child(
    cache: PlanStore, bundle: Bundle, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-c", SCRIPTED, str(bundle.path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            while b"hanging" not in (line := process.stderr.readline()):
                assert line, "it ended before it built"
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.send_signal(number)
            process.stderr.read()
            assert process.wait() == code
            with pytest.raises(ProcessLookupError):
                os.kill(int(child), 0)
        finally:
            process.kill()
    assert not list(cache.root.glob("drafts/*"))
    assert cache.find(keys()["text"]) is None


def test_the_cache_is_listed(cache: PlanStore, capsys: pytest.CaptureFixture[str]) -> None:
    kept(cache, key("text"))
    cache.keep(record(key("image"), sha256="", nbytes=0, refused="cosine 0.42"))
    (cache.root / ("0" * 64)).mkdir()

    assert cli._run(["build", "--list"]) == 0
    told = capsys.readouterr().out
    assert all(
        word in told for word in ("tiny 1", "Orin", "10.3.0.30", "good", "refused: cosine 0.42", "damaged: 0000")
    )


def test_pruning_removes_what_versions_here_cannot_use(cache: PlanStore) -> None:
    here, elsewhere = key(), key(device=replace(DEVICE, gpu="Thor"))
    for each in (here, elsewhere):
        kept(cache, each)
    old = (
        key(tensorrt="10.2"),
        key(embedge="0.0.1"),
        key(device=replace(DEVICE, driver=12040)),
        key(device=replace(DEVICE, release="535")),
    )
    for each in old:
        kept(cache, each, b"123456")
    (cache.root / ("0" * 64)).mkdir()
    cache.timing.mkdir()
    for name in ("10.3.0.30-ab", "10.2-ab"):
        (cache.timing / name).write_bytes(b"12")

    count, freed = prune(cache, "10.3.0.30", DEVICE)

    assert count == len(old) + 1
    assert freed > 6 * len(old)
    assert all(cache.find(each) for each in (here, elsewhere))
    assert not any(cache.find(each) for each in old)
    assert [file.name for file in cache.timing.iterdir()] == ["10.3.0.30-ab"]
