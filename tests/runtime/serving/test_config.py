"""Settings of the server: a file, and options that win over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge.config import RuntimeConfig
from embedge.errors import InvalidInput
from embedge.serving.config import ServeConfig


def test_options_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "embedge.toml"
    file.write_text('host = "0.0.0.0"\nport = 7000\n[runtime]\nlanes = 3\nmax_batch_tokens = 512\n')
    config = ServeConfig.load(file, {"port": 7001, "token": None}, {"lanes": 1, "threads": None})
    assert (config.host, config.port, config.token) == ("0.0.0.0", 7001, None)
    assert (config.runtime.lanes, config.runtime.threads, config.runtime.max_batch_tokens) == (1, None, 512)


def test_a_ready_file_that_is_a_device_is_refused_and_not_removed() -> None:
    with pytest.raises(InvalidInput, match=r"--ready-file /dev/null: .*no regular file"):
        ServeConfig.load(None, {"ready_file": Path("/dev/null")}, {})


def test_without_a_file_the_defaults_hold() -> None:
    assert ServeConfig.load(None, {"port": None}, {}) == ServeConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prt = 1", "prt"),
        ("port = 70000", "port"),
        ("drain_seconds = inf", "drain_seconds"),
        ("drain_seconds = nan", "drain_seconds"),
        ("[runtime]\nlane = 1", "lane"),
        ("runtime = 3", "runtime"),
        ("port = ", "not valid TOML"),
        ('token = ""', "token"),
        ('tls_cert = "a.pem"', "--tls-key"),
    ],
)
def test_a_wrong_file_is_named_and_so_is_the_mistake(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "embedge.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=says):
        ServeConfig.load(file, {}, {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("token_budget", "max_batch_tokens"),
        ("max_batch", "max_batch_size"),
        ("captures", "cuda_graphs"),
        ("staging", "batches_in_flight"),
    ],
)
def test_an_old_name_of_a_setting_is_refused_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    assert new in RuntimeConfig.__struct_fields__
    file = tmp_path / "embedge.toml"
    for text in (f"[runtime]\n{old} = 2\n", f"{old} = 2\n"):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=rf"embedge\.toml: {old} is now {new}$"):
            ServeConfig.load(file, {}, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.toml: cannot be read"):
        ServeConfig.load(tmp_path / "gone.toml", {}, {})
