"""Plans from elsewhere: only those that a trusted key signed, as they were signed, and for what is here."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from embedge import Bundle, RuntimeConfig
from embedge.backends.tensorrt.plans import build, shipped, signature
from embedge.backends.tensorrt.plans.signature import Trust, signer
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.errors import InvalidInput, Unavailable
from tests.runtime.plans.made import DEVICE, kept, key, keys


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return write(Ed25519PrivateKey.generate(), tmp_path / "key.pem")


@pytest.fixture
def public(private: Path) -> Path:
    return write_public(private)


@pytest.fixture
def folder(store: PlanStore, private: Path, tmp_path: Path) -> Path:
    """A signed plan, elsewhere."""
    return shipped.ship(kept(store, key()), tmp_path / "out", signer(private))


def write(key: Ed25519PrivateKey, path: Path, password: bytes | None = None) -> Path:
    shut = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, shut))
    return path


def write_public(private: Path) -> Path:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = private.with_suffix(".pub")
    path.write_bytes(signer(private).public_key().public_bytes(*form))
    return path


def test_a_signed_plan_is_taken(folder: Path, public: Path) -> None:
    plan = shipped.find(folder.parent, key(), Trust([public]))

    assert plan is not None
    assert plan.read() == b"a plan"
    assert shipped.find(folder.parent, key("another"), Trust([public])) is None


def test_one_of_several_keys_is_enough(folder: Path, public: Path, tmp_path: Path) -> None:
    other = write_public(write(Ed25519PrivateKey.generate(), tmp_path / "other.pem"))

    assert shipped.find(folder.parent, key(), Trust([other, public])) is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tensorrt": "11.4.0.106"}, "tensorrt '10.3.0.30', here '11.4.0.106'"),
        ({"device": changed(DEVICE, gpu="Thor", capability=(11, 0))}, r"gpu 'Orin', here 'Thor'; capability \(8, 7\)"),
    ],
)
def test_a_plan_for_something_else_is_refused_and_both_are_named(
    folder: Path, public: Path, change: dict[str, object], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert shipped.find(folder.parent, key(**change), Trust([public])) is None
    assert "built for something else" in caplog.text
    assert re.search(says, caplog.text)


@pytest.mark.parametrize("missing", ["record.sig", "record.json", "plan"])
def test_what_is_not_all_there_is_not_used(
    folder: Path, public: Path, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / missing).unlink()

    assert shipped.find(folder.parent, key(), Trust([public])) is None
    assert "not used" in caplog.text


@pytest.mark.parametrize("name", ["record.sig", "record.json"])
@pytest.mark.parametrize("what", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo, Path.mkdir])
def test_what_has_no_end_or_no_writer_is_not_waited_for(
    folder: Path, public: Path, name: str, what: Callable[[Path], None]
) -> None:
    (folder / name).unlink()
    what(folder / name)
    assert shipped.find(folder.parent, key(), Trust([public])) is None


def test_a_key_that_anybody_may_change_is_refused(public: Path) -> None:
    public.chmod(0o646)
    with pytest.raises(InvalidInput, match="chmod o-w"):
        Trust([public])


def test_nobody_is_trusted_by_default(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert shipped.find(folder.parent, key(), Trust(())) is None
    assert "trust_plans names no key" in caplog.text


def test_another_key_is_not_trusted(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = write_public(write(Ed25519PrivateKey.generate(), tmp_path / "other.pem"))

    assert shipped.find(folder.parent, key(), Trust([other])) is None
    assert f"signed it as it is: {other}" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_any_flipped_byte_is_refused(folder: Path, public: Path, tmp_path: Path, data: st.DataObject) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy / "plan")
    file = copy / "plan" / data.draw(st.sampled_from(["plan", "record.json", "record.sig"]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)

    assert shipped.find(copy, key(), Trust([public])) is None


def test_a_signature_for_something_else_is_none(folder: Path, private: Path, public: Path) -> None:
    (folder / "record.sig").write_bytes(signer(private).sign((folder / "record.json").read_bytes()))

    assert shipped.find(folder.parent, key(), Trust([public])) is None


def test_plans_beside_a_bundle_are_found(
    store: PlanStore, bundle: Bundle, folder: Path, public: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle.path, tmp_path / "bundle")
    shutil.move(folder.parent, tmp_path / "bundle" / "plans")
    beside = replace(bundle, path=tmp_path / "bundle")
    empty = PlanStore(tmp_path / "empty" / "plans")

    assert set(build.find(empty, beside, keys(), RuntimeConfig(trust_plans=(str(public),)))) == {"text"}
    assert build.find(empty, beside, keys(), RuntimeConfig()) == {}


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff"])
def test_what_is_no_key_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(InvalidInput, match=r"not a public ed25519 key.*openssl"):
        Trust([tmp_path / "key"])
    with pytest.raises(InvalidInput, match=r"not a private ed25519 key.*openssl"):
        signer(tmp_path / "key")


def test_a_key_of_another_kind_or_with_a_password_is_told(tmp_path: Path, public: Path) -> None:
    other = write(generate_private_key(SECP256R1()), tmp_path / "ec.pem")  # type: ignore[arg-type]
    shut = write(Ed25519PrivateKey.generate(), tmp_path / "shut.pem", b"password")

    for file in (other, shut, public):
        with pytest.raises(InvalidInput, match="not a private ed25519 key"):
            signer(file)
    with pytest.raises(InvalidInput, match="nowhere: cannot be read: No such file"):
        Trust([tmp_path / "nowhere"])


def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(signature, "find_spec", lambda name: None)

    with pytest.raises(Unavailable, match=r"pip install 'embedge\[sign\]'"):
        Trust([public])
    Trust(())


def test_a_key_that_is_not_there_is_told_before_it_is_needed(store: PlanStore, bundle: Bundle, tmp_path: Path) -> None:
    assert not (bundle.path / "plans").exists()
    with pytest.raises(InvalidInput, match="nobody"):
        build.find(store, bundle, keys(), RuntimeConfig(trust_plans=(str(tmp_path / "nobody.pem"),)))
