"""form_batch by its properties, on random tables, queues, deadlines and limits; pad against a plain loop."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge.batches.batch import Layout, pad, stretch
from embedge.bundle.part_specs import Fill
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.forming import Limits, form_batch

INF = float("inf")
ROWS, LENGTHS = (1, 2, 8, 64), (4, 16, 128)


@dataclass
class Counted:
    """A cost table that counts how often it is asked."""

    table: CostTable
    asked: int = 0

    def seconds(self, rows: int, length: int) -> float:
        self.asked += 1
        return self.table.seconds(rows, length)


@dataclass
class Case:
    """A queue with everything that form_batch is given."""

    lengths: list[int]
    anchor: int
    slack: list[float]
    cost: Counted
    limits: Limits
    window: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.window = form_batch(self.lengths, self.anchor, self.slack, self.cost, self.limits)

    def alone(self, low: int, high: int) -> float:
        return sum(self.cost.table.seconds(1, length) for length in self.lengths[low:high])

    def together(self, low: int, high: int) -> float:
        return self.cost.table.seconds(high - low, self.lengths[high - 1])


@st.composite
def tables(draw: st.DrawFn) -> CostTable:
    """A monotone table of any shape: restore makes it rise."""
    table = CostTable(ROWS, LENGTHS)
    figure = st.floats(1e-4, 10.0)
    assert table.restore([[draw(figure) for _ in LENGTHS] for _ in ROWS])
    return table


@st.composite
def cases(draw: st.DrawFn, *, slack: bool = True, loose: bool = False) -> Case:
    lengths = sorted(draw(st.lists(st.integers(1, 200), min_size=1, max_size=40)))
    slacks = st.floats(-1.0, 20.0) | st.just(INF) if slack else st.just(INF)
    limits = Limits(1000, 1_000_000) if loose else Limits(draw(st.integers(1, 50)), draw(st.integers(1, 3000)))
    return Case(
        lengths,
        draw(st.integers(0, len(lengths) - 1)),
        [draw(slacks) for _ in lengths],
        Counted(draw(tables())),
        limits,
    )


@given(cases())
def test_anchor_is_in_and_limits_hold(case: Case) -> None:
    low, high = case.window

    assert 0 <= low <= case.anchor < high <= len(case.lengths)
    assert high - low <= case.limits.rows
    assert high - low == 1 or (high - low) * case.lengths[high - 1] <= case.limits.tokens


@given(cases())
def test_no_deadline_that_could_be_met_alone_is_broken_by_company(case: Case) -> None:
    low, high = case.window

    took = case.together(low, high)
    for place in range(low, high):
        possible = case.slack[place] >= case.cost.table.seconds(1, case.lengths[place])
        assert not possible or took <= case.slack[place]


@given(cases())
def test_never_slower_than_one_at_a_time(case: Case) -> None:
    low, high = case.window

    assert case.together(low, high) <= case.alone(low, high) * (1 + 1e-9)


@given(cases(slack=False, loose=True))
def test_never_slower_than_everything_at_once_where_all_of_it_fits(case: Case) -> None:
    low, high = case.window
    all_of_it = (0, len(case.lengths))

    speedup = case.alone(low, high) / case.together(low, high)
    assert speedup >= case.alone(*all_of_it) / case.together(*all_of_it) * (1 - 1e-9)


@given(cases())
def test_same_question_same_answer_in_bounded_work(case: Case) -> None:
    asked = case.cost.asked

    assert asked <= 2 * case.limits.rows + 1
    assert case.window == form_batch(case.lengths, case.anchor, case.slack, case.cost, case.limits)


@given(cases(slack=False))
def test_whoever_rides_is_nearer_than_whoever_is_left_out_on_that_side(case: Case) -> None:
    low, high = case.window

    left_out = [*case.lengths[:low], *case.lengths[high:]]
    inside = case.lengths[low:high]
    assert sorted(left_out + inside) == case.lengths
    assert all(length <= inside[0] for length in case.lengths[:low])
    assert all(length >= inside[-1] for length in case.lengths[high:])


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), tables(), st.integers(1, 50))
def test_draining_a_queue_is_never_slower_than_one_at_a_time(lengths: list[int], table: CostTable, rows: int) -> None:
    queue = sorted(lengths)
    spent = 0.0
    while queue:
        low, high = form_batch(queue, len(queue) // 2, [INF] * len(queue), table, Limits(rows, 4000))
        spent += table.seconds(high - low, queue[high - 1])
        del queue[low:high]

    assert spent <= sum(table.seconds(1, length) for length in lengths) * (1 + 1e-9)


@dataclass
class Plain:
    """seconds = fixed + token * rows * length"""

    fixed: float
    token: float

    def seconds(self, rows: int, length: int) -> float:
        return self.fixed + self.token * rows * length


def test_a_gpu_goes_on_to_large_batches_and_a_cpu_stops_at_long_texts() -> None:
    limits = Limits(64, 100_000)
    lengths = [10] * 40 + [500] * 40

    gpu = form_batch(lengths, 0, [INF] * 80, Plain(1e-2, 1e-7), limits)
    cpu = form_batch(lengths, 79, [INF] * 80, Plain(1e-4, 1e-4), limits)

    assert gpu[0] == 0
    assert gpu[1] > 60
    assert cpu == (79, 80)


def row_of(random: np.random.Generator, length: int, tail: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        "ids": random.integers(1, 100, length),
        "frames": random.integers(1, 100, (length + 1, *tail)).astype(np.float32),
        "pixels": random.integers(0, 256, (3, *tail)).astype(np.uint8),
        "language": np.array(random.integers(9)),
    }


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    tail=st.lists(st.integers(1, 3), max_size=2),
    left=st.booleans(),
    fixed=st.booleans(),
    dtype=st.sampled_from(["int32", "int64"]),
    value=st.integers(-1, 300),
)
def test_every_row_is_found_back_and_the_rest_is_padding(
    lengths: list[int], tail: list[int], left: bool, fixed: bool, dtype: str, value: int
) -> None:
    random = np.random.default_rng(1)
    rows = [row_of(random, length, tuple(tail)) for length in lengths]
    width = 23 if fixed else None
    fills = {
        "ids": Fill(ragged=True, pad=value, left=left, width=width),
        "frames": Fill(ragged=True, pad=-2),
        "pixels": Fill(),
        "language": Fill(),
        "mask": Fill(ragged=True, mask_of="ids"),
        "frame_mask": Fill(ragged=True, mask_of="frames"),
    }
    dtypes = {"ids": dtype, "frames": "float32", "pixels": "uint8", "language": dtype, "mask": dtype}
    form = Layout({**dtypes, "frame_mask": "bool"}, fills)

    arrays = pad(rows, form)

    assert {name: str(array.dtype) for name, array in arrays.items()} == form.dtypes
    assert arrays["ids"].shape == (len(rows), width or max(1, *lengths))
    assert arrays["frames"].shape == (len(rows), max(lengths) + 1, *tail)
    for name, mask, fill in (("ids", "mask", value), ("frames", "frame_mask", -2)):
        own = arrays[mask].astype(bool)
        for place, row in enumerate(rows):
            size = len(row[name])
            begin = own.shape[1] - size if left and name == "ids" else 0
            assert own[place].nonzero()[0].tolist() == list(range(begin, begin + size))
            np.testing.assert_array_equal(arrays[name][place][own[place]], row[name])
            assert (arrays[name][place][~own[place]] == fill).all()
    for name in ("pixels", "language"):
        np.testing.assert_array_equal(arrays[name], [row[name] for row in rows])


def test_the_mask_of_what_is_not_ragged_is_one_everywhere() -> None:
    form = Layout(
        {"values": "float32", "mask": "int64"}, {"values": Fill(), "mask": Fill(ragged=True, mask_of="values")}
    )

    arrays = pad([{"values": np.zeros((4, 2), np.float32)}] * 3, form)

    np.testing.assert_array_equal(arrays["mask"], np.ones((3, 4)))


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    length_multiple=st.integers(1, 16),
    most=st.none() | st.integers(40, 50),
    left=st.booleans(),
)
def test_widths_are_rounded_up_within_the_limit_and_rows_keep_their_places(
    lengths: list[int], length_multiple: int, most: int | None, left: bool
) -> None:
    rows = [{"ids": np.arange(1, length + 1)} for length in lengths]
    fills = {"ids": Fill(ragged=True, most=most, left=left, pad=-1), "mask": Fill(mask_of="ids", ragged=True)}
    form = Layout({"ids": "int64", "mask": "int64"}, fills)

    arrays = pad(rows, form, length_multiple)

    width, least = arrays["ids"].shape[1], max(1, *lengths)
    assert width == most or (width % length_multiple == 0 and width < least + length_multiple)
    assert least <= width <= (most or width)
    for row, ids, mask in zip(rows, arrays["ids"], arrays["mask"], strict=True):
        np.testing.assert_array_equal(ids[mask > 0], row["ids"])
        assert (ids[mask == 0] == -1).all()
        assert len(row["ids"]) in (0, width) or (mask[-1] if left else mask[0])


def test_pad_does_not_write_into_the_rows() -> None:
    random = np.random.default_rng(1)
    rows = [row_of(random, 5, (2,))]
    fills = {"ids": Fill(ragged=True), "frames": Fill(ragged=True), "pixels": Fill(), "language": Fill()}
    form = Layout({"ids": "int64", "frames": "float32", "pixels": "uint8", "language": "int64"}, fills)
    before = {name: array.copy() for name, array in rows[0].items()}

    for array in pad(rows, form).values():
        array[...] = 0

    for name, array in rows[0].items():
        np.testing.assert_array_equal(array, before[name])


@given(length=st.integers(1, 40), longer=st.integers(1, 200), most=st.integers(1, 100))
def test_a_stretched_row_repeats_itself_up_to_its_limit(length: int, longer: int, most: int) -> None:
    row = row_of(np.random.default_rng(1), length, ())
    fills = {"ids": Fill(ragged=True, most=most), "frames": Fill(), "pixels": Fill(), "language": Fill()}

    long = stretch(row, Layout({}, fills), longer / length)

    np.testing.assert_array_equal(long["ids"], np.resize(row["ids"], min(longer, most)))
    assert all(long[name] is row[name] for name in ("frames", "pixels", "language"))
