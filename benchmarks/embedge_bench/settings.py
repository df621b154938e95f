"""From command line options to a plan. All mistakes in them are reported here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from embedge.errors import InvalidInput, NotFound
from embedge_bench.results import Load
from embedge_bench.targets import Spec, parse

if TYPE_CHECKING:
    from embedge_bench.bench import BenchPlan
    from embedge_bench.parity import Reference
    from embedge_bench.texts import Texts

__all__ = ["Settings"]

_DEFAULT_WORKLOAD = "mixed"
_DEFAULT_CALLERS = (1, 8)
_VECTORS = ".npy"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The checked options of `embedge bench`; see the command's help."""

    specs: list[Spec]
    workloads: list[str]
    loads: list[Load]
    duration: float
    count: int | None
    rounds: int
    warm_up: float
    texts: int
    json_field: str
    seed: int
    reference: Path | None
    recorded: tuple[float, ...]
    against: tuple[str, ...] = ()

    @classmethod
    def of(cls, targets: Sequence[str], options: Mapping[str, Any]) -> Settings:
        """Return the settings for the options. Raises EmbedgeError."""
        for name, least in (
            ("duration", 0.0),
            ("timeout", 0.0),
            ("count", 0),
            ("rounds", 0),
            ("batch", 0),
            ("texts", 1),
        ):
            _check_over(name, options[name], least)
        if options["warm_up"] < 0:
            raise InvalidInput(f"--warm-up {options['warm_up']:g} is below zero; give 0 for none")
        specs = _unique([parse(text) for text in targets])
        return cls(
            specs=specs,
            against=_among(specs, options.get("against")),
            workloads=list(dict.fromkeys(options["workload"] or [_DEFAULT_WORKLOAD])),
            loads=_loads(options),
            recorded=_recorded(options["arrivals"]),
            **{name: options[name] for name in cls.__struct_fields__ if name in options and name != "against"},
        )

    def title(self) -> str:
        """Return a heading for the report."""
        return " · ".join(spec.name for spec in self.specs)

    def plan(self) -> BenchPlan:
        """Read the texts, compute the reference vectors, and return the plan. Raises EmbedgeError."""
        from embedge_bench import texts
        from embedge_bench.bench import BenchPlan

        workloads = [texts.load(name, count=self.texts, field=self.json_field) for name in self.workloads]
        source = self._source()
        if source is not None and source.suffix != _VECTORS:
            from embedge.bundle import Bundle

            bundle = Bundle.load(source)
            workloads = [each.measured(bundle) for each in workloads]
        return BenchPlan(
            specs=self.specs,
            workloads=workloads,
            loads=self.loads,
            rounds=self.rounds,
            seconds=self.duration,
            count=self.count,
            warm_up=self.warm_up,
            seed=self.seed,
            references={each.name: _reference(source, each) for each in workloads} if source else {},
            arrivals=self.recorded,
            against=self.against,
        )

    def _source(self) -> Path | None:
        """Return the source of the reference vectors: the named one, else the first bundle among the targets."""
        local = (Path(spec.path) for spec in self.specs if spec.path is not None)
        return self.reference or next(local, None)


def _check_over(name: str, value: float | None, least: float) -> None:
    if value is not None and not (value > least and math.isfinite(value)):
        option = f"--{name.replace('_', '-')}"
        raise InvalidInput(f"{option} {value:g} is not possible; give a number over {least:g}")


def _unique(specs: list[Spec]) -> list[Spec]:
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two targets are called {name!r}; name them apart, as in first={specs[0].text}")
    return specs


def _among(specs: list[Spec], text: str | None) -> tuple[str, ...]:
    """Return the names in a list such as `triton,infinity`; each must be a target's."""
    names = [spec.name for spec in specs]
    wanted = tuple(name.strip() for name in text.split(",")) if text else ()
    for name in wanted:
        if name not in names:
            raise NotFound(f"--against {name!r} is none of the targets: {', '.join(names)}")
    return wanted


def _loads(options: Mapping[str, Any]) -> list[Load]:
    """Return the closed loops, then the open ones; the usual closed ones if none is named."""
    both = {"batch": options["batch"], "timeout": options["timeout"]}
    callers = _numbers("concurrency", options["concurrency"])
    if any(number != int(number) for number in callers):
        raise InvalidInput(f"--concurrency {options['concurrency']} is not possible; give whole numbers, as in 1,8,32")
    rates = _numbers("rate", options["rate"])
    open_loops = [Load(kind="open", rate=rate, arrivals="poisson", **both) for rate in rates]
    if options["arrivals"] is not None:
        if rates:
            raise InvalidInput("--rate and --arrivals exclude each other: recorded arrivals have their own rate")
        times = _recorded(options["arrivals"])
        rate = len(times) / times[-1] if times[-1] else float(len(times))
        open_loops = [Load(kind="open", rate=rate, arrivals=options["arrivals"].name, **both)]
    if not callers and not open_loops:
        callers = list(_DEFAULT_CALLERS)
    return [Load(kind="closed", concurrency=int(number), **both) for number in callers] + open_loops


def _numbers(name: str, text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InvalidInput(f"--{name} {text!r} is no list of numbers, as in 1,8,32") from error
    for number in numbers:
        _check_over(name, number, 0)
    return list(dict.fromkeys(numbers))


def _recorded(path: Path | None) -> tuple[float, ...]:
    from embedge_bench.load import recorded

    return () if path is None else tuple(recorded(path))


def _reference(source: Path, texts: Texts) -> Reference:
    from embedge_bench import parity

    return parity.from_file(source, texts) if source.suffix == _VECTORS else parity.from_bundle(str(source), texts)
