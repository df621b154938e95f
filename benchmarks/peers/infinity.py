"""Serve a bundle's text tower with Infinity's ONNX engine over HTTP, in the form of OpenAI's embeddings endpoint.

    python benchmarks/peers/infinity.py BUNDLE --port 7997

The model gets the bundle's name. Infinity pools and normalises by itself, so it is given the bundle's graph up to the
last hidden state. All its settings are its own defaults: batches of up to 32 texts sorted by length, and as many
threads as the machine has cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import ENVIRONMENTS, TextModel, enter

OFFLINE = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def model_directory(model: TextModel) -> Path:
    """Write the directory that optimum reads: graph, tokenizer and just enough configuration."""
    root = ENVIRONMENTS / "models" / model.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    save_trunk(model, root / "model.onnx")
    tokenizer = json.loads(model.tokenizer.read_text())
    tokenizer["truncation"] = tokenizer["padding"] = None  # both are set per call
    (pad,) = (token for token, number in vocabulary(tokenizer) if number == model.pad_id)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "model_max_length": model.max_length}
    config = {"model_type": "bert", "max_position_embeddings": model.max_length, "hidden_size": model.dim}
    for name, content in (("tokenizer", tokenizer), ("tokenizer_config", settings), ("config", config)):
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def vocabulary(tokenizer: dict):
    """Return the (token, id) pairs of a tokenizer.json that are special or added."""
    return [(token["content"], token["id"]) for token in tokenizer["added_tokens"]]


def save_trunk(model: TextModel, path: Path) -> None:
    """Write the bundle's graph up to its last layer normalisation, which gives an encoder's last hidden state."""
    import onnx
    from onnx.utils import Extractor

    graph = onnx.load(model.graph)
    norms = [node for node in graph.graph.node if node.op_type == "LayerNormalization"]
    if not norms:
        sys.exit(f"{model.graph}: no LayerNormalization node, so its last hidden state cannot be found")
    hidden = norms[-1].output[0]
    kind = onnx.helper.make_tensor_value_info(hidden, onnx.TensorProto.FLOAT, ["batch", "length", model.dim])
    graph.graph.value_info.append(kind)
    trunk = Extractor(graph).extract_model([model.ids, model.mask], [hidden])
    for node in trunk.graph.node:
        rename(node.input, {model.ids: "input_ids", model.mask: "attention_mask", hidden: "last_hidden_state"})
        rename(node.output, {hidden: "last_hidden_state"})
    trunk.graph.output[0].name = "last_hidden_state"
    trunk.graph.input[0].name, trunk.graph.input[1].name = "input_ids", "attention_mask"
    onnx.save(trunk, path)


def rename(names, changes: dict[str, str]) -> None:
    """Replace names in place."""
    names[:] = [changes.get(name, name) for name in names]


def serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return Infinity's exit status if it stops by itself."""
    model = TextModel.load(arguments.bundle)
    command = [Path(sys.prefix) / "bin" / "infinity_emb", "v2", "--model-id", model_directory(model)]
    command += ["--served-model-name", model.name, "--engine", "optimum", "--device", "cpu", "--no-model-warmup"]
    command += ["--pooling-method", arguments.pooling, "--host", "127.0.0.1", "--port", str(arguments.port)]
    server = subprocess.Popen(list(map(str, [*command, "--url-prefix", "/v1"])), stdout=sys.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.terminate())
    while server.poll() is None and not healthy(f"http://127.0.0.1:{arguments.port}/health"):
        time.sleep(0.2)
    if server.poll() is None:
        sys.stdout.write(f"ready 127.0.0.1:{arguments.port}\n")
        sys.stdout.flush()
    status = server.wait()
    return 0 if status in (0, -signal.SIGTERM) else status


def healthy(address: str) -> bool:
    """Say whether the server answers yet."""
    try:
        with urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except (URLError, OSError):
        return False


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Serve a bundle with Infinity (ONNX engine), OpenAI-style HTTP.")
    parser.add_argument("bundle", type=Path, help="bundle directory")
    parser.add_argument("--port", type=int, default=7997)
    parser.add_argument(
        "--pooling", choices=("mean", "cls"), default="mean", help="as the model does it (default mean)"
    )
    arguments = parser.parse_args()
    enter("infinity", environment=OFFLINE)
    sys.exit(serve(arguments))


if __name__ == "__main__":
    main()
