"""What is to be done, resolved and neutral: a backend reads these fields and never sees a technique's key.

Every field's default is the naive way, so that the empty stack is the naive baseline and each technique sets one field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .request import Search


class DType(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Attention(StrEnum):
    EAGER = "eager"
    SDPA = "sdpa"


class Quantization(StrEnum):
    """DYNAMIC: weights ahead, activations by their own range at each call. STATIC: activations by ranges that a calibration
    found. WEIGHT_ONLY: weights in blocks; what a kernel does with activations inside itself is its own affair."""

    NONE = "none"
    INT8_DYNAMIC = "int8_dynamic"
    INT16_DYNAMIC = "int16_dynamic"
    INT8_STATIC = "int8_static"
    INT8_WEIGHT_ONLY = "int8_weight_only"
    INT4_WEIGHT_ONLY = "int4_weight_only"


class Selection(StrEnum):
    """How a row's best candidates are found.

    FULL_SORT: log-softmax and sort over the whole vocabulary. TOP_K: top-k of the logits, normalized by one log-sum-exp.
    """

    FULL_SORT = "full_sort"
    TOP_K = "top_k"


class Reorder(StrEnum):
    """How the caches follow the beams.

    COPY: every row's cache is copied, row by row. INDEX_SELECT: one gather per tensor. LAZY: caches stay where they
    were written; attention reads through an index of which row holds which step.
    """

    COPY = "copy"
    INDEX_SELECT = "index_select"
    LAZY = "lazy"


class Head(StrEnum):
    """How the vocabulary projection is read. FULL: like every other layer. EXACT_INT8: in int8, the outputs that may be the
    best scored again in float32. SHORTLIST: in int4, its 64 best scored again in float32."""

    FULL = "full"
    EXACT_INT8 = "exact_int8"
    SHORTLIST = "shortlist"


class DraftFrom(StrEnum):
    """Where tokens come from that one pass then verifies. TEXT: what followed the same n-gram in the input or the output.
    SELF: the same model with its weights in int4."""

    NONE = "none"
    TEXT = "text"
    SELF = "self"


class BeamSearch(StrEnum):
    NAIVE = "naive"
    VECTORIZED = "vectorized"


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All that is fixed when a session opens; a worker process holds exactly one for its whole life.

    candidates: k of Candidates, fixed here so that it can live inside a compiled graph.
    native: keys of techniques that patch this backend's handle from their own file.
    keep_float: parts of layer names that quantization leaves alone. calibration: file whose inputs static quantization
    sees, empty for the shipped evaluation inputs. graph_optimization: the runtime may rewrite its graph.
    compiled: steps are compiled ahead; cuda_graphs: and replayed as one launch. self_draft: a second copy of the weights in
    int4 is held, which drafts.
    """

    model: str
    backend: str
    device: str = "cpu"
    threads: int = 1
    dtype: DType = DType.FLOAT32
    attention: Attention = Attention.EAGER
    self_kv_cache: bool = False
    cross_kv_cache: bool = False
    quantization: Quantization = Quantization.NONE
    selection: Selection = Selection.FULL_SORT
    reorder: Reorder = Reorder.COPY
    candidates: int = 1
    native: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()
    calibration: str = ""
    graph_optimization: bool = False
    compiled: bool = False
    cuda_graphs: bool = False
    head: Head = Head.FULL
    self_draft: bool = False


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """All that may change between two runs of one worker. encoder_cache_bytes: 0 is no encoder cache; draft_tokens: the most
    tokens that are drafted at once."""

    search: Search = field(default_factory=Search)
    beam_search: BeamSearch = BeamSearch.NAIVE
    drop_finished_rows: bool = False
    encoder_cache_bytes: int = 0
    draft_from: DraftFrom = DraftFrom.NONE
    draft_tokens: int = 0


FORCED_CANDIDATES = 16  # of each step of teacher forcing


def candidates_needed(search: Search, eos_tokens: int = 1) -> int:
    """k per row: 1 for greedy; (1 + eos tokens) x beams for beam search, as transformers keeps; room to suppress eos."""
    suppressed = eos_tokens if search.exact_tokens else 0
    return (1 if search.num_beams == 1 else (1 + eos_tokens) * search.num_beams) + suppressed
