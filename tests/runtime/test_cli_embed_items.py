"""`embedge embed` of more than texts: files, parts by name, numbers, and a server that asks who calls."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import trustme

from tests.runtime.embedding import jsonl, run, write_lines
from tests.servers import served
from tests.tiny_towers import CHANNELS, SIDE, tiny_towers, vector


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers(tmp_path_factory.mktemp("engines") / "towers" / "1")


def images(directory: Path) -> list[np.ndarray]:
    """Write two images into the directory, and return their pixels."""
    pixels = [np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for seed in (1, 2)]
    for number, image in enumerate(pixels):
        PIL.Image.fromarray(image).save(directory / f"{number}.png")
    return pixels


def test_parts_of_an_item_are_named_in_json(tmp_path: Path, towers: Path) -> None:
    (tmp_path / "pictures").mkdir()
    first, _ = images(tmp_path / "pictures")
    (tmp_path / "broken.png").write_bytes(b"no image")
    lines = [
        '{"id": "a", "text": "a cat", "image": "pictures/0.png", "more": 1}',
        '{"text": "a cat", "image": "pictures/9.png"}',
        '{"text": "a cat", "image": "broken.png"}',
        '{"text": "a cat", "image": 7}',
        '{"caption": "a cat"}',
    ]
    out = tmp_path / "out.jsonl"
    assert run(towers, write_lines(tmp_path / "in.jsonl", lines), "-o", out, "--tower", "both") == 1
    [row] = jsonl(out)
    assert row["id"] == "a"
    np.testing.assert_array_equal(row["vector"], vector(text="a cat", image=first))
    faults = jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [fault["line"] for fault in faults] == [2, 3, 4, 5]
    told = [
        "no such file",
        "part 'image'",
        "the path of a file is needed, not int",
        "parts of the model: text, im",
    ]
    assert all(words in fault["error"] for words, fault in zip(told, faults, strict=True))


def test_tensors_are_lists_in_json(tmp_path: Path, towers: Path) -> None:
    series = np.arange(2 * CHANNELS).reshape(2, CHANNELS)
    lines = [json.dumps({"series": series.tolist()}), '{"series": [[1, 2], [3]]}', '{"series": ["a"]}']
    out = tmp_path / "out.npy"
    assert run(towers, write_lines(tmp_path / "in.jsonl", lines), "-o", out) == 1
    np.testing.assert_array_equal(np.load(out)[0], vector(series=series.astype(np.float32)))


def test_lines_are_paths_of_files(tmp_path: Path, towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images(tmp_path)
    expected = [vector(image=image) for image in pixels]
    out = tmp_path / "out.npy"
    assert run(towers, write_lines(tmp_path / "in.txt", ["0.png", "1.png", "9.png"]), "-o", out, "--files") == 1
    np.testing.assert_array_equal(np.load(out)[:2], expected)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"0.png\n1.png\n")))
    assert run(towers, "-", "-o", out, "--files") == 0
    np.testing.assert_array_equal(np.load(out), expected)


def test_a_server_gives_the_same_with_its_token_over_tls(tmp_path: Path, towers: Path) -> None:
    pixels = images(tmp_path)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    pair = ("--tls-cert", str(cert), "--tls-key", str(key))
    lines = write_lines(tmp_path / "in.txt", ["0.png", "1.png"])
    out = tmp_path / "out.npy"
    with served(towers.parent, *pair, "--tls-client-ca", str(ca), "--token", "secret") as process:
        ask = ("towers", lines, "-o", out, "--files", "--server", process.address, "--tls-ca", ca, *pair)
        assert run(*ask) == 2
        assert run(*ask, "--token", "secret") == 0
    np.testing.assert_array_equal(np.load(out), [vector(image=image) for image in pixels])


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--tls"], "need --server"), (["--server", "127.0.0.1:1", "--tls", "--tls-key", "key.pem"], "both --tls-cert")],
)
def test_options_of_tls_that_do_not_fit(
    tmp_path: Path, towers: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(towers, write_lines(tmp_path / "in.txt", ["a cat"]), *options) == 2
    assert told in capsys.readouterr().err
