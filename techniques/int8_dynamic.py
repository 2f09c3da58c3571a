"""Quantizes the linear layers' weights to int8 per output channel and their inputs per call (dynamic quantization)."""

from typing import Any

from stepscope.core.spec import Stage, TechniqueSpec

SPEC = TechniqueSpec(
    key="int8_dynamic",
    title="Dynamic int8 quantization",
    stage=Stage.LOAD,
    exact=False,
    summary=(
        "Every linear layer, the vocabulary projection included, holds int8 weights with one scale per output channel; "
        "activations are quantized at each call by their own range, so no calibration is needed. Needs integer dot "
        "products (AVX512-VNNI, AVX-VNNI or AMX) to pay off; without them it mostly shrinks the weights."
    ),
    cost="Tokens can change. A quarter of the linear layers' bytes; the embedding table stays in float32.",
    source="torch.ao.quantization.quantize_dynamic; Jacob et al. 2017 (arXiv:1712.05877)",
    sets={"quantization": "int8_dynamic"},
    group="weights",
    devices=frozenset({"cpu"}),
    native_for=frozenset({"pytorch", "pytorch_generate"}),
)


def apply(model: Any) -> None:
    """Replaces every torch.nn.Linear of a transformers model, in place, by its dynamically quantized form.

    Weights: int8, one scale per output channel, symmetric. Raises Unavailable when torch was built without an engine.
    """
    import warnings

    import torch
    from torch.ao import quantization as q

    from stepscope.core.errors import Unavailable

    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if not engines:
        raise Unavailable("This build of torch has no quantized engine.", "Install torch for this processor.")
    if "x86" in engines:
        torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():  # torch.ao is being moved to torchao; torch 2.13.0, which is pinned, still has it
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        q.quantize_dynamic(model, {torch.nn.Linear: q.per_channel_dynamic_qconfig}, inplace=True)
