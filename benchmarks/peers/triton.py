"""Serve a bundle's text tower with Triton core (through PyTriton) over the Open Inference Protocol.

    python benchmarks/peers/triton.py BUNDLE --port 8001

The model gets the bundle's name, one BYTES input `text` of shape [rows, 1] and one FP32 output `embedding`. It is set
up as a Triton user would: dynamic batching of up to 32 rows, 1 ms of wait, and the graph with the machine's cores.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import TextModel, enter

# PyTriton's backend stub is linked against libpython3.11, which Debian's own interpreter brings.
PYTHON = "/usr/bin/python3.11"


class Encoder:
    """Tokenizer and graph behind Triton's batcher. Called from one thread."""

    def __init__(self, model: TextModel, threads: int) -> None:
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(model.graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(model.tokenizer))
        self._tokenizer.enable_truncation(model.max_length)
        self._tokenizer.enable_padding(pad_id=model.pad_id)
        self._model = model

    def __call__(self, text):
        """Return the vectors of `text`, (rows, 1) bytes."""
        import numpy as np

        encodings = self._tokenizer.encode_batch([row.decode() for row in text[:, 0]])
        feeds = {
            self._model.ids: np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            self._model.mask: np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        }
        return self._session.run([self._model.output], feeds)


def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    import numpy as np
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

    model = TextModel.load(arguments.bundle)
    signals = {signal.SIGTERM, signal.SIGINT}
    stdout = os.dup(1)
    os.dup2(2, 1)  # the core's log goes where logs go, so that stdout has the ready line alone
    config = TritonConfig(grpc_address="127.0.0.1", grpc_port=arguments.port, allow_http=False, allow_metrics=False)
    # Without restrictions: its token would be asked of every gRPC client.
    security = TritonSecurityConfig(restricted_endpoints=[])
    with Triton(config=config, security_config=security) as triton:
        triton.bind(
            model_name=model.name,
            infer_func=batch(Encoder(model, arguments.threads)),
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(model.dim,))],
            config=ModelConfig(
                max_batch_size=arguments.max_batch_size,
                batcher=DynamicBatcher(max_queue_delay_microseconds=arguments.max_wait_us),
            ),
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        triton.run()
        os.write(stdout, f"ready 127.0.0.1:{arguments.port}\n".encode())
        signal.sigwait(signals)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Serve a bundle with Triton core (PyTriton), OIP gRPC.")
    parser.add_argument("bundle", type=Path, help="bundle directory")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--threads", type=int, default=2, help="threads of the graph (default 2)")
    parser.add_argument("--max-batch-size", type=int, default=32, help="rows a batch (default 32)")
    parser.add_argument("--max-wait-us", type=int, default=1000, help="wait for more rows (default 1000)")
    arguments = parser.parse_args()
    enter("triton", python=PYTHON)
    serve(arguments)


if __name__ == "__main__":
    main()
