"""Output specs: each kind of result a tower can give, and the graph outputs it is read from. Part of the manifest."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from embedge.bundle.part_specs import Size, Strict

__all__ = [
    "CodeForm",
    "CodesOutput",
    "DenseOutput",
    "GaussianOutput",
    "MultiVectorOutput",
    "Output",
    "ScoresOutput",
    "SparseOutput",
]

CodeForm = Literal["bits", "integers"]
Vocabulary = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class _OutputSpec(Strict, frozen=True):
    """What all output specs have."""

    @property
    def kind(self) -> str:
        """The tag: dense, multi_vector, sparse, gaussian, codes or scores."""
        return str(self.__struct_config__.tag)

    @property
    def ragged(self) -> bool:
        """Whether items differ in their number of vectors, weights or codes."""
        return False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the graph outputs it is read from: what the fields `tensor` and `keep` name."""
        named = (getattr(self, field, None) for field in ("tensor", "keep"))
        return tuple(name for name in named if name is not None)


class DenseOutput(_OutputSpec, frozen=True, kw_only=True, tag="dense", tag_field="kind"):
    """One vector an item, from `tensor` (batch, dim).

    `dims` lists the sizes the vector was trained to be cut to; empty means that any size up to `dim` is allowed.
    """

    tensor: str
    space: str
    dim: Size
    normalized: bool
    dims: tuple[Size, ...] = ()


class MultiVectorOutput(_OutputSpec, frozen=True, kw_only=True, tag="multi_vector", tag_field="kind"):
    """A vector a token, patch or frame, from `tensor` (batch, places, dim).

    keep: the graph output (batch, places), bool or integers, that is not 0 where a place has a vector of its own;
    None: everywhere. Places that are padding or masked never leave the runtime.
    """

    tensor: str
    keep: str | None = None
    space: str
    dim: Size
    normalized: bool
    dims: tuple[Size, ...] = ()

    @property
    def ragged(self) -> bool:
        """Items differ in their number of vectors."""
        return True


class SparseOutput(_OutputSpec, frozen=True, kw_only=True, tag="sparse", tag_field="kind"):
    """Weights of a vocabulary's entries, from `tensor` (batch, dim); those over 0 are kept, at most `top`."""

    tensor: str
    space: str
    dim: Vocabulary
    top: Size | None = None

    @property
    def ragged(self) -> bool:
        """Items differ in their number of weights."""
        return True


class GaussianOutput(_OutputSpec, frozen=True, kw_only=True, tag="gaussian", tag_field="kind"):
    """A normal distribution with a diagonal covariance: `mean` and `log_variance`, each (batch, dim)."""

    mean: str
    log_variance: str
    space: str
    dim: Size

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the graph outputs it is read from."""
        return (self.mean, self.log_variance)


class CodesOutput(_OutputSpec, frozen=True, kw_only=True, tag="codes", tag_field="kind"):
    """Discrete codes, from `tensor`.

    form `bits`: (batch, dim), a number over 0 is a 1; they travel packed, dim a multiple of 8, and compare by Hamming
    distance. form `integers`: (batch, dim), or (batch, places, dim) with `keep` as in a multi-vector.
    """

    tensor: str
    keep: str | None = None
    form: CodeForm = "bits"
    space: str
    dim: Size

    @property
    def ragged(self) -> bool:
        """Whether items differ in their number of codes."""
        return self.keep is not None


class ScoresOutput(_OutputSpec, frozen=True, kw_only=True, tag="scores", tag_field="kind"):
    """A named number for each of `labels`, from `tensor` (batch, labels): class scores, or values of a regression."""

    tensor: str
    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1 << 16)]


Output = DenseOutput | MultiVectorOutput | SparseOutput | GaussianOutput | CodesOutput | ScoresOutput
