"""docs/serving.md shows every setting of the server with its default, and nothing that is none."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from embedge.config import RuntimeConfig
from embedge.oip import grpc_service_pb2
from embedge.serving.config import ServeConfig
from tests.structure.code import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SETTINGS = PAGE.split("```toml\n")[1].split("```")[0]
# Settings that mean something on a GPU alone: the last of the runtime's.
GPU = RuntimeConfig.__struct_fields__[RuntimeConfig.__struct_fields__.index("gpu") :]
# A key without a default stands behind a `#`; a file cannot say "none".
WITHOUT_DEFAULT = re.compile(r"^# (?=\w+ = )", re.MULTILINE)


def load(text: str, folder: Path) -> ServeConfig:
    file = folder / "embedge.toml"
    file.write_text(text)
    return ServeConfig.load(file, {}, {})


def keys(text: str) -> list[str]:
    return re.findall(r"^(\w+) = ", text, re.MULTILINE)


def test_every_field_is_there_and_in_its_table() -> None:
    server, runtime = WITHOUT_DEFAULT.sub("", SETTINGS).split("[runtime]")
    assert keys(server) == [field for field in ServeConfig.__struct_fields__ if field != "runtime"]
    assert keys(runtime) == list(RuntimeConfig.__struct_fields__)


def test_defaults_are_the_true_ones(tmp_path: Path) -> None:
    assert load(SETTINGS, tmp_path) == ServeConfig()
    server, runtime = msgspec.structs.asdict(ServeConfig()), msgspec.structs.asdict(RuntimeConfig())
    without = {key for key, value in (server | runtime).items() if value is None}
    assert set(keys(WITHOUT_DEFAULT.sub("", SETTINGS))) - set(keys(SETTINGS)) == without


def test_examples_of_what_has_no_default_are_possible(tmp_path: Path) -> None:
    config = load(WITHOUT_DEFAULT.sub("", SETTINGS), tmp_path)
    assert None not in msgspec.structs.astuple(config)
    assert None not in msgspec.structs.astuple(config.runtime)


@pytest.mark.parametrize("name", [*GPU, "hang_seconds", "max_batch_tokens"])
def test_what_lanes_on_a_gpu_take_is_explained_once(name: str) -> None:
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"^\| `{name}`[ ,]", page, re.MULTILINE)) == 1


@pytest.mark.parametrize("call", grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
def test_every_call_of_the_open_inference_protocol_is_named(call: str) -> None:
    assert f"`{call}`" in PAGE
