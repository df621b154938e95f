"""A plan holds for one key: whatever differs makes another plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from embedge import Bundle
from embedge.backends.tensorrt.plans.key import BuildDevice, BuildFlags, PlanKey
from embedge.batches.shapes import Range
from embedge.cuda.driver import Gpu
from tests.runtime.plans.made import DEVICE, key

GPU = Gpu(0, "Orin", (8, 7), 8, int(7.4 * 2**30), True, 12060, "0000:01:00.0")
TEXTS = st.text(max_size=8)
SHAPES = st.lists(st.integers(1, 512), min_size=1, max_size=3).map(tuple)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "int": st.integers(0, 1 << 40),
    "bool": st.booleans(),
    "tuple[int, int]": st.tuples(st.integers(0, 20), st.integers(0, 9)),
    "tuple[str, ...]": st.lists(TEXTS, max_size=3).map(tuple),
    "tuple[dict[str, Range], ...]": st.lists(
        st.dictionaries(TEXTS, st.builds(Range, SHAPES, SHAPES, SHAPES), max_size=3), max_size=3
    ).map(tuple),
}


def fields(struct: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Return the fields that hold a value, with their types as written."""
    return [(name, kind) for name, kind in struct.__annotations__.items() if kind in VALUES]


NESTED: dict[type, str] = {BuildDevice: "device", BuildFlags: "flags"}  # by what the key calls them
CHANGES = [(struct, name, kind) for struct in (PlanKey, BuildDevice, BuildFlags) for name, kind in fields(struct)]


def test_every_field_is_looked_at() -> None:
    assert {name for _, name, _ in CHANGES} == {*NESTED.values()} ^ {
        name for struct in (PlanKey, BuildDevice, BuildFlags) for name in struct.__struct_fields__
    }


@pytest.mark.parametrize(("struct", "name", "kind"), CHANGES, ids=lambda each: getattr(each, "__name__", each))
@given(data=st.data())
def test_any_changed_field_changes_digest_and_is_named(
    struct: type[msgspec.Struct], name: str, kind: str, data: st.DataObject
) -> None:
    here = key()
    parts: dict[type, msgspec.Struct] = {PlanKey: here, BuildDevice: here.device, BuildFlags: here.flags}
    value = data.draw(VALUES[kind].filter(lambda value: value != getattr(parts[struct], name)))
    changed = replace(parts[struct], **{name: value})
    there = changed if struct is PlanKey else replace(here, **{NESTED[struct]: changed})

    assert there.digest() != here.digest()
    assert there.differences(here).startswith(f"{name} {value!r}, here ")


def test_a_key_is_the_same_however_its_profiles_were_made() -> None:
    one = key(profiles=({"a": Range((1,), (2,), (3,)), "b": Range((1,), (2,), (3,))},))
    other = key(profiles=({"b": Range((1,), (2,), (3,)), "a": Range((1,), (2,), (3,))},))

    assert one.digest() == other.digest()
    assert one.differences(other) == ""
    assert msgspec.json.decode(msgspec.json.encode(one), type=PlanKey) == one


def test_order_of_profiles_counts() -> None:
    first, second = {"a": Range((1,), (2,), (3,))}, {"a": Range((1,), (2,), (4,))}

    assert key(profiles=(first, second)).digest() != key(profiles=(second, first)).digest()


def test_key_of_a_bundles_graph(bundle: Bundle) -> None:
    profile = {"ids": Range((1, 1), (8, 16), (64, 32))}
    made = PlanKey.of(
        bundle, "encoder", [profile], tensorrt="11", device=DEVICE, flags=BuildFlags(level=3, workspace=1)
    )

    assert made.graph == bundle.manifest.graphs["encoder"].sha256
    assert made.profiles == (profile,)
    assert made.weights == ""


def test_weights_in_a_file_of_their_own_are_of_the_key(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, files={"model.onnx_data": "12ab"})
    made = PlanKey.of(
        Bundle(bundle.path, manifest),
        "encoder",
        [],
        tensorrt="11",
        device=DEVICE,
        flags=BuildFlags(level=3, workspace=1),
    )

    assert made.weights == "12ab"


def test_a_jetson_says_its_release_and_power_mode(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0002 fmode:quiet\n")
    here = BuildDevice.here(GPU, tmp_path)

    assert (here.l4t, here.power, here.release) == ("36.4.3", "0002", "")
    assert here.memory == 8


@pytest.mark.parametrize("module", ["Kernel Module", "Open Kernel Module for x86_64"])
def test_a_server_says_its_driver(tmp_path: Path, module: str) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(f"NVRM version: NVIDIA UNIX {module}  580.95.05  Tue\n")

    assert BuildDevice.here(GPU, tmp_path).release == "580"
