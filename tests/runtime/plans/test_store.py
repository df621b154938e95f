"""The cache of plans: what is found is what was kept, whole, for this key and by this user; all else is refused."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedge.backends.tensorrt.plans import store as stores
from embedge.backends.tensorrt.plans.record import Damaged, Plan
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.errors import BackendError
from tests.runtime.plans.made import kept, key, record

PLAN = b"a plan"
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def entries(store: PlanStore) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_what_is_kept_is_found_by_its_key_alone(store: PlanStore) -> None:
    kept(store, key())
    plan = store.find(key())

    assert plan is not None
    assert plan.read() == PLAN
    assert plan.record == record(key())
    assert store.find(key("another")) is None
    assert entries(store) == [f"{key().digest()}/plan", f"{key().digest()}/record.json"]


def test_another_store_finds_it_too(store: PlanStore) -> None:
    kept(store, key())

    assert PlanStore(store.root).find(key()) is not None


def test_by_default_plans_are_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", "/named")

    assert PlanStore().root == Path("/named/plans")


def test_the_cache_is_the_users_own(store: PlanStore) -> None:
    before = os.umask(0)
    try:
        plan = kept(store, key())
    finally:
        os.umask(before)

    assert store.root.stat().st_mode & 0o777 == 0o700
    assert plan.folder.stat().st_mode & 0o777 == 0o700


def test_a_newer_plan_takes_the_place_of_an_older(store: PlanStore) -> None:
    kept(store, key())
    kept(store, key(), b"newer")

    plan = store.find(key())
    assert plan is not None
    assert plan.read() == b"newer"


def test_a_refusal_is_kept_with_its_reason(store: PlanStore) -> None:
    store.keep(record(key(), sha256="", nbytes=0, refused="cosine 0.42"))

    plan = store.find(key())
    assert plan is not None
    assert plan.record.refused == "cosine 0.42"


@SAME_FOLDER
@given(data=st.data())
def test_any_flipped_byte_of_a_plan_is_refused(
    store: PlanStore, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    plan = kept(store, key(), bytes(range(256)))
    caplog.clear()
    flip(plan.file, data)

    assert store.find(key()) is None
    assert "not used, and built again" in caplog.text
    with pytest.raises(BackendError, match="damaged or changed"):
        plan.read()


@SAME_FOLDER
@given(data=st.data())
def test_any_flipped_byte_of_a_record_is_refused(
    store: PlanStore, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    plan = kept(store, key())
    caplog.clear()
    flip(plan.folder / "record.json", data)

    assert store.find(key()) is None
    assert "not used, and built again" in caplog.text


@SAME_FOLDER
@given(data=st.data())
def test_a_cut_file_is_refused(store: PlanStore, data: st.DataObject) -> None:
    plan = kept(store, key(), bytes(range(256)))
    file = data.draw(st.sampled_from([plan.file, plan.folder / "record.json"]))
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])

    assert store.find(key()) is None


def flip(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)


def test_a_record_of_another_key_is_refused_and_says_in_what(
    store: PlanStore, caplog: pytest.LogCaptureFixture
) -> None:
    other = kept(store, key(tensorrt="11.4.0.106"))
    other.folder.rename(store.root / key().digest())

    assert store.find(key()) is None
    assert "tensorrt '11.4.0.106', here '10.3.0.30'" in caplog.text


@pytest.mark.parametrize("missing", ["plan", "record.json"])
def test_half_of_a_plan_is_none(store: PlanStore, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    (kept(store, key()).folder / missing).unlink()

    assert store.find(key()) is None
    assert "it is incomplete" in caplog.text


@pytest.mark.parametrize("change", [{"odd": 1}, {"format": 2}, {"refused": "both"}, {"sha256": ""}])
def test_a_record_that_this_version_does_not_know_is_refused(
    store: PlanStore, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = kept(store, key())
    values = msgspec.to_builtins(plan.record) | change
    from embedge.backends.tensorrt.plans import record as records

    records.write(plan.folder, values)  # type: ignore[arg-type] - sealed as it should be, but of other content
    assert store.find(key()) is None
    with pytest.raises(Damaged):
        Plan.load(plan.folder)


def test_a_record_without_end_is_not_read(store: PlanStore) -> None:
    (kept(store, key()).folder / "record.json").write_bytes(b"[" * (2 << 20))

    assert store.find(key()) is None


def test_what_was_written_must_be_on_the_disk(store: PlanStore, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"a pl")

    with pytest.raises(BackendError, match="check the disk"):
        store.keep(record(key()), tmp_path / "plan")
    assert store.find(key()) is None


def test_a_cache_that_others_may_write_is_refused(store: PlanStore) -> None:
    kept(store, key())
    store.root.chmod(0o770)

    with pytest.raises(BackendError, match=r"can be written by others; .*chmod 700"):
        store.find(key())
    with pytest.raises(BackendError, match="can be written by others"):
        kept(store, key())


def test_a_cache_of_another_user_is_refused(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(store, key())
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    with pytest.raises(BackendError, match=r"belongs to another user; .*EMBEDGE_CACHE"):
        store.find(key())


def test_a_cache_behind_a_link_is_refused(store: PlanStore, tmp_path: Path) -> None:
    kept(store, key())
    store.root.rename(tmp_path / "elsewhere")
    store.root.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BackendError, match="is a link"):
        store.find(key())


def test_a_cache_that_cannot_be_made_costs_the_plan_after_this_process(
    store: PlanStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.root.parent.write_text("not a directory")
    plan = kept_beside(store)

    assert "when this process ends" in caplog.text
    assert "EMBEDGE_CACHE" in caplog.text
    found = store.find(key())
    assert found is not None
    assert found.read() == PLAN
    assert PlanStore(store.root).find(key()) is None
    assert plan.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_no_record_costs_the_plan_after_this_process(
    store: PlanStore, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = stores.write

    def full(folder: Path, *args: object) -> None:
        if folder.is_relative_to(store.root):
            raise OSError(number, os.strerror(number))
        write(folder, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(stores, "write", full)
    kept(store, key())

    assert os.strerror(number) in caplog.text
    found = store.find(key())
    assert found is not None
    assert found.read() == PLAN
    assert not found.folder.is_relative_to(store.root)


def test_the_listing_names_what_cannot_be_understood(store: PlanStore) -> None:
    kept(store, key())
    shutil.copytree(store.root / key().digest(), store.root / ("0" * 64))
    (store.root / ("0" * 64) / "record.json").write_text("{}")
    (store.root / ("1" * 64)).write_text("a file is no plan, and is left alone")
    (store.root / ("2" * 64)).symlink_to(store.root / key().digest())

    assert [found and found.graph for _, found in store.plans()] == [None, "text"]


def kept_beside(store: PlanStore) -> Plan:
    """Put a plan into a store whose root cannot be."""
    file = store.root.parent.with_name("written")
    file.write_bytes(PLAN)
    return store.keep(record(key()), file)
