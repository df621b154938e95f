"""Clips to mono float32 samples at the model's rate: decoded, resampled, cut or filled up, in windows where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from embedge.batches.batch import Row
from embedge.bundle.part_specs import AudioPrepare
from embedge.config import RuntimeConfig
from embedge.content import Audio
from embedge.errors import EmbedgeError, InvalidInput
from embedge.inputs import clips, media
from embedge.inputs.clips import Samples
from embedge.inputs.wanted import go_on
from embedge.request import Request

__all__ = ["AudioInput"]

# Decoded beyond the limit where a clip is cut, for the resampler: it looks so far ahead.
_SPARE_SECONDS = 0.1
# Full scale is 1 and true clips hardly exceed it; integers that were only converted do.
_LOUDEST = 32.0
# Bytes of a second of an encoded clip, for a guess: 16 kHz, 16 bits, one channel.
_BYTES_A_SECOND = 32_000
_PROBE_HZ = 440.0
_PROBE_SECONDS = 0.25


class AudioInput:
    """Prepares the clips of one part. Safe to call from several threads.

    Takes `Audio`, or the bytes or the path of an encoded clip. Resampling is soxr's, at its high quality (HQ).
    """

    def __init__(self, spec: AudioPrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        self.max_bytes = config.max_media_bytes
        self._window = round(spec.max_seconds * spec.rate)
        self._least = self._window if spec.fixed else round(spec.min_seconds * spec.rate)
        self._hop = round(spec.hop_seconds * spec.rate) if spec.hop_seconds else 0
        self._most = self._window + self._hop * (spec.max_windows - 1)

    def check(self, request: Request) -> None:
        """Accept every request: no option of a request is wrong for clips."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each clip's arrays, float32 `(samples,)` or `(windows, samples)`, or its error."""
        results: list[Row | EmbedgeError] = []
        for content in contents:
            go_on()
            try:
                results.append(self._row(self._samples(content, request.truncate)))
            except InvalidInput as error:
                results.append(error)
        return results

    def probe(self) -> Audio:
        """Return a short tone, float32 `(samples,)`, of at least the length the model takes."""
        count = min(max(self._least, round(_PROBE_SECONDS * self.spec.rate)), self._window)
        tone = 0.5 * np.sin(2 * np.pi * _PROBE_HZ / self.spec.rate * np.arange(count))
        return Audio(tone.astype(np.float32), self.spec.rate)

    def size(self, row: Row) -> int:
        """Return the samples of all windows in units, rounded up."""
        return -(-row[self.spec.inputs["samples"]].size // self.spec.unit)

    def estimate(self, contents: Sequence[object]) -> int:
        """Return about the sum of the sizes: seconds of encoded clips are guessed."""
        return sum(-(-self._filled_size(min(self._guess(each), self._most)) // self.spec.unit) for each in contents)

    def weight(self, content: object) -> int:
        """Return how many bytes the clip has; 0 for what is none."""
        return media.weigh(content.data if isinstance(content, Audio) else content)

    def _guess(self, content: object) -> int:
        """Return about how many samples a clip becomes."""
        if isinstance(content, Audio) and isinstance(content.data, np.ndarray) and content.data.ndim:
            rate = content.rate if isinstance(content.rate, int) and content.rate > 0 else self.spec.rate
            return len(content.data) * self.spec.rate // rate
        return self.weight(content) * self.spec.rate // _BYTES_A_SECOND

    def _filled_size(self, count: int) -> int:
        """Return how many samples so many become, filled up or in windows."""
        return len(self._begins(count)) * self._window if self._hop else max(self._least, count)

    def _samples(self, content: object, cut: bool) -> Samples:
        """Return a clip's samples at the model's rate, at most as many as it takes. Raises InvalidInput."""
        samples, rate = self._decoded(content, cut)
        if not len(samples):
            raise InvalidInput("the clip has no samples; leave it out, or send a longer one")
        _check_numbers(samples)
        at_rate = samples if rate == self.spec.rate else soxr.resample(samples, rate, self.spec.rate)
        if not len(at_rate):
            raise InvalidInput(f"the clip has no samples at {self.spec.rate:,} Hz; send a longer one")
        return at_rate[: self._most]

    def _decoded(self, content: object, cut: bool) -> tuple[Samples, float]:
        """Return a clip's samples and their rate, at least as many as are kept. Raises InvalidInput."""
        data, rate = (content.data, content.rate) if isinstance(content, Audio) else (content, None)
        limit = clips.Limit(self._most / self.spec.rate, _SPARE_SECONDS, cut)
        if isinstance(data, Path):  # only what is needed of it is read
            return clips.read(data, limit)
        if isinstance(data, (bytearray, memoryview)):
            data = bytes(data)
        if not isinstance(data, (bytes, np.ndarray)):
            raise InvalidInput(
                f"a clip is needed here, not {type(data).__name__}: the bytes or the Path of a file, "
                "or Audio(samples, rate)"
            )
        media.bound(data, self.max_bytes)
        return clips.take(data, rate, limit) if isinstance(data, np.ndarray) else clips.read(data, limit)

    def _row(self, samples: Samples) -> Row:
        """Return the arrays of a clip by graph input."""
        inputs = self.spec.inputs
        begins = self._begins(len(samples)) if self._hop else (0,)
        windows = [samples[begin : begin + self._window] for begin in begins]
        row: dict[str, NDArray[np.generic]] = {}
        if self._hop:
            row[inputs["samples"]] = np.stack([self._filled(window, self._window) for window in windows])
        else:
            row[inputs["samples"]] = self._filled(samples, self._least)
        if "length" in inputs:
            lengths = np.array([len(window) for window in windows], np.int64)
            row[inputs["length"]] = lengths if self._hop else lengths.reshape(())
        return row

    def _begins(self, count: int) -> range:
        """Return where windows begin: as many as it takes until one reaches the clip's end."""
        return range(0, max(1, min(count, count - self._window + self._hop)), self._hop)

    def _filled(self, samples: Samples, count: int) -> Samples:
        """Fill a clip up to so many samples."""
        if len(samples) >= count:
            return samples
        if self.spec.fill == "repeat":
            return np.resize(samples, count)
        times = count // len(samples) if self.spec.fill == "repeat_whole" else 1
        filled = np.zeros(count, np.float32)
        filled[: times * len(samples)] = np.tile(samples, times)
        return filled


def _check_numbers(samples: Samples) -> None:
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise InvalidInput("the clip has samples that are not finite (NaN or Inf)")
    if peak > _LOUDEST:
        raise InvalidInput(f"the clip's samples go up to {peak:,.0f}, not 1; divide 16-bit ones by 32768")
