"""Pages and recipes for deploying name settings, commands, options and extras that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from embedge import cli, toml
from embedge.serving.config import ServeConfig
from tests.structure.code import ROOT

DEPLOY = ROOT / "docs" / "deploy"
PAGES = [ROOT / "docs" / name for name in ("gpu.md", "jetson.md")]
RECIPES = sorted(DEPLOY.glob("*.Dockerfile"))
UNIT = DEPLOY / "embedge.service"
EXTRAS = re.compile(r"(?:embedge|\.whl\))\[([\w,]+)\]")


def ids(path: Path) -> str:
    return path.name


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def check_options(words: list[str]) -> None:
    """Hold a command line of embedge against the commands and options that there are."""
    command: Any = get_command(cli.app)
    context = command.make_context("embedge", [], resilient_parsing=True)
    while hasattr(command, "get_command"):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


@pytest.fixture(autouse=True, scope="module")
def _joined() -> None:
    for entry in entry_points(group="embedge.commands"):
        cli._join(entry)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_settings_of_a_page_can_be_loaded(page: Path, tmp_path: Path) -> None:
    found = blocks(page, "toml")
    assert found
    for number, text in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        ServeConfig.load(file, {}, {})


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_of_a_page_are_there(page: Path) -> None:
    lines = [line for text in blocks(page, "bash") for line in text.splitlines() if line.startswith("embedge ")]
    assert lines
    for line in lines:
        check_options(shlex.split(line)[1:])


@pytest.mark.parametrize("path", [*PAGES, *RECIPES], ids=ids)
def test_extras_are_there(path: Path) -> None:
    there = toml.read(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    named = {extra for group in EXTRAS.findall(path.read_text(encoding="utf-8")) for extra in group.split(",")}
    assert named
    assert named <= set(there)
    assert not {"cpu", "gpu"} <= named or path.suffix == ".md"


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_a_container_starts_the_server_and_lets_it_drain(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    (words,) = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    check_options([word.strip('" ') for word in words.split(",")])
    assert re.findall(r"^FROM (\S+):(\S+)$", text, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in text
    assert "not built" in text
    assert text.index("USER embedge") < text.index("ENTRYPOINT")


def test_the_unit_gives_the_server_time_to_drain() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))
    assert int(settings["TimeoutStopSec"]) > ServeConfig().drain_seconds
    check_options(settings["ExecStart"].split()[1:])


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    text = UNIT.read_text(encoding="utf-8").replace("/srv/embedge/venv/bin/embedge", "/bin/true")
    unit = tmp_path / "embedge.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if "embedge.service" in line], done.stderr
