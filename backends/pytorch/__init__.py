"""Steps the transformers modules themselves, one decoder pass at a time, with every cache under our control."""

from __future__ import annotations

from collections.abc import Callable

from stepscope.core.plan import LoadPlan
from stepscope.core.session import ModelSource, Session
from stepscope.core.spec import BackendSpec, Package

_INSTALL = "pip install -r requirements.txt"

SPEC = BackendSpec(
    key="pytorch",
    title="PyTorch",
    summary=(
        "The transformers T5, mT5 and UMT5 modules on PyTorch, called step by step by StepScope's own loop. Both caches, "
        "the attention kernel, the reorder and the weights' type are separate switches, so each one's effect shows alone."
    ),
    honours=frozenset(
        {
            "self_kv_cache",
            "cross_kv_cache",
            "encoder_cache",
            "sdpa",
            "bf16",
            "fp16",
            "beam_naive",
            "beam_vectorized",
            "beam_lazy_reorder",
            "drop_finished_rows",
            "torch_compile",
            "cuda_graphs",
        }
    ),
    packages=(Package("torch", _INSTALL), Package("transformers", _INSTALL)),
    devices=frozenset({"cpu", "cuda"}),
    source="https://github.com/huggingface/transformers (modeling_t5.py), https://pytorch.org",
)


def open_session(plan: LoadPlan, source: ModelSource, progress: Callable[[str], None]) -> Session:
    model, report = source.torch_model(plan)
    if plan.compiled:
        from .compiled import CompiledSession

        return CompiledSession(model, report, plan)
    from .session import TorchSession

    return TorchSession(model, report, plan)
