"""Public names are pinned: a change here is a change for users, and belongs into CHANGELOG.md."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

import embedge
from embedge import errors
from embedge.bundle import manifest

NAMES = {
    "AsyncClient",
    "AsyncEmbedder",
    "Audio",
    "BackendError",
    "Bundle",
    "BundleError",
    "Client",
    "Codes",
    "DeadlineExceeded",
    "Embedder",
    "EmbedgeError",
    "Gaussian",
    "Image",
    "InvalidInput",
    "LabelSet",
    "MultiVectors",
    "NotFound",
    "Overloaded",
    "Ranking",
    "Reply",
    "Repository",
    "Request",
    "RuntimeConfig",
    "Scores",
    "Sparse",
    "Text",
    "Timings",
    "Unauthenticated",
    "Unavailable",
    "Vector",
    "Vectors",
    "Video",
    "__version__",
}

# Exception, gRPC status, HTTP status: design section 7.
ERRORS = {
    "BackendError": ("INTERNAL", 500),
    "BundleError": ("FAILED_PRECONDITION", 500),
    "DeadlineExceeded": ("DEADLINE_EXCEEDED", 504),
    "InvalidInput": ("INVALID_ARGUMENT", 422),
    "NotFound": ("NOT_FOUND", 404),
    "Overloaded": ("RESOURCE_EXHAUSTED", 429),
    "Unauthenticated": ("UNAUTHENTICATED", 401),
    "Unavailable": ("UNAVAILABLE", 503),
}

MANIFEST_NAMES = {
    "FILE_NAME",
    "FORMAT",
    "Buckets",
    "Certificate",
    "Chain",
    "Metric",
    "Graph",
    "LabelSet",
    "Manifest",
    "Part",
    "Provenance",
    "SetSpec",
    "Space",
    "TensorSpec",
    "Tower",
    "decode",
    "encode",
}

# What the two sides of the wire have in common, so that code moves from one to the other.
EMBED_OPTIONS = ["tower", "output", "dim", "dtype", "pool", "prompt", "truncate", "timeout", "priority"]


def test_public_names() -> None:
    assert set(embedge.__all__) == NAMES


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse(inspect.getsource(embedge))
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert {alias.name for alias in aliases if alias.asname == alias.name} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_public_name_is_there(name: str) -> None:
    assert getattr(embedge, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        embedge.Embeder  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_error_carries_its_status(name: str) -> None:
    cls = getattr(errors, name)
    assert (cls.grpc, cls.http) == ERRORS[name]
    assert issubclass(cls, errors.EmbedgeError)
    assert type(errors.from_status(cls.grpc, "text")) is cls


def test_no_error_is_missing_from_the_table() -> None:
    found = {name for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.EmbedgeError)}
    assert found - {"EmbedgeError"} == set(ERRORS)


def test_manifest_names_and_format() -> None:
    assert set(manifest.__all__) == MANIFEST_NAMES
    assert manifest.FORMAT == 1


@pytest.mark.parametrize("name", ["Embedder", "AsyncEmbedder", "Client", "AsyncClient"])
def test_embed_takes_the_same_options_everywhere(name: str) -> None:
    assert set(options(getattr(embedge, name).embed)) == set(EMBED_OPTIONS)


@pytest.mark.parametrize("method", ["embed", "run", "classify", "score"])
def test_a_method_is_called_in_the_same_way_everywhere(method: str) -> None:
    def asked(name: str) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(getattr(getattr(embedge, name), method)).parameters.values()
        return [(each.name, each.kind, each.default) for each in parameters if each.name != "model"]

    assert asked("Embedder") == asked("AsyncEmbedder") == asked("Client") == asked("AsyncClient")


def test_reranking_takes_the_same_options_and_more_over_the_wire() -> None:
    def asked(name: str) -> list[str]:
        return [each for each in inspect.signature(getattr(embedge, name).rerank).parameters if each != "model"]

    more = ["embed_model", "keep"]
    assert asked("Embedder") == asked("AsyncEmbedder") == [each for each in asked("Client") if each not in more]
    assert asked("Client") == asked("AsyncClient")
    assert set(more) < set(asked("Client"))


def options(method: object) -> list[str]:
    """Return a method's keyword options; `**options: Unpack[Options]` counts as the fields of Options."""
    parameters = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    named = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        named += importlib.import_module("embedge.request").Options.__annotations__
    return named
