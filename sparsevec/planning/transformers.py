"""The FLOPs of a transformer, counted by term from its shape: one multiplication and one addition are 2.

With L layers of width d, heads of inner width a = heads * head width (of keys and values c, smaller where heads share
them), feed-forward width f and m matrices in it (2, or 3 where it is gated), one token costs a layer

    projections    4 d (a + c)        queries, keys, values, output
    feed_forward   2 m d f
    scores         4 a s              against s tokens: Q K^T and A V

An encoder's and a prompt's tokens see all i of them (s = i, also under a causal mask: kernels that skip the masked half
do half as much); the t-th token after the prompt sees i + t. The vocabulary projection is 2 d V, for generated tokens
only. An encoder-decoder projects its encoder's output to keys and values once for each decoder layer. Embedding
look-ups, norms, activations and softmax are left out: below a thousandth for the models this is for.

The closed form of E2R-FLOPs (Peng et al., EMNLP 2025) counts two feed-forward matrices and divides the attention by
the grouping; the counts that were published with it differ from it by 18 to 29 %, and from this by 0.03 % at most.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sparsevec.errors import InvalidInput, described
from sparsevec.storage import as_path

__all__ = ["Flops", "Transformer", "at_least"]

Kind = Literal["encoder", "decoder", "encoder-decoder"]


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs by term, of one pass or of many."""

    projections: float = 0.0
    """queries, keys, values and outputs of the attention"""
    scores: float = 0.0
    """Q K^T and A V, as an eager kernel computes them"""
    feed_forward: float = 0.0
    pooler: float = 0.0
    """the dense layer on the first token that BERT has and most embedding models do not use"""
    vocabulary: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the terms."""
        return float(sum(getattr(self, term.name) for term in fields(self)))

    def __add__(self, other: Flops) -> Flops:
        return Flops(*(getattr(self, term.name) + getattr(other, term.name) for term in fields(self)))

    def __mul__(self, times: float) -> Flops:
        return Flops(*(getattr(self, term.name) * times for term in fields(self)))


@dataclass(frozen=True, slots=True)
class Transformer:
    """The shape of a model, as far as FLOPs depend on it."""

    kind: Kind
    layers: int
    width: int
    inner: int
    """heads * head width"""
    key_value: int
    """key and value heads * head width: `inner`, unless heads share them"""
    feed_forward: int
    gated: bool
    """three matrices in the feed-forward, not two"""
    vocabulary: int = 0
    decoder_layers: int = 0
    """of an encoder-decoder"""
    pooler: bool = False
    name: str = "transformer"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInput(f"kind must be one of {', '.join(get_args(Kind))}, found {self.kind!r:.80}")
        for field in ("layers", "width", "inner", "key_value", "feed_forward"):
            at_least(1, getattr(self, field), field)
        for field in ("vocabulary", "decoder_layers"):
            at_least(0, getattr(self, field), field)

    @classmethod
    def from_config(cls, source: Mapping[str, Any] | str | Path) -> Transformer:
        """Of a model's `config.json`: its contents, its path, or the folder that it is in.

        Raises InvalidInput, naming the field, for a config that does not say what is needed.
        """
        return _read(source)

    def flops(self, inputs: float, outputs: int = 0) -> Flops:
        """Of one pass over `inputs` tokens, and of `outputs` tokens generated after it (0: an embedding, a score).

        Means of tokens may be given: the attention scores then cost a little more than said, for the square is convex.
        """
        at_least(1, inputs, "tokens that are read")
        at_least(0, outputs, "tokens that are generated")
        if self.kind == "encoder" and outputs:
            raise InvalidInput(f"{self.name} is an encoder: it generates nothing, found outputs={outputs}")
        read = self._pass(self.layers, inputs) * inputs
        if self.kind == "encoder-decoder":
            return read + self._cross(inputs) + self._steps(self.decoder_layers, outputs, inputs, crossing=True)
        pooled = Flops(pooler=2.0 * self.width**2 if self.pooler else 0.0, vocabulary=self._word * min(outputs, 1))
        return read + pooled + self._steps(self.layers, max(0, outputs - 1), inputs, crossing=False)

    def _pass(self, layers: int, seen: float) -> Flops:
        """One token through `layers`, against `seen` tokens."""
        return Flops(
            projections=4.0 * layers * self.width * (self.inner + self.key_value),
            scores=4.0 * layers * self.inner * seen,
            feed_forward=2.0 * layers * (3 if self.gated else 2) * self.width * self.feed_forward,
        )

    def _cross(self, inputs: float) -> Flops:
        """The encoder's output as keys and values of the decoder, once."""
        return Flops(projections=4.0 * self.decoder_layers * self.width * self.key_value * inputs)

    def _steps(self, layers: int, steps: int, inputs: float, *, crossing: bool) -> Flops:
        before = 0.0 if crossing else inputs  # tokens that the first step finds there
        cost = Flops(vocabulary=self._word * steps)
        cost += self._pass(layers, before + (steps + 1) / 2) * steps
        if crossing:
            cost += (
                Flops(projections=4.0 * layers * self.width * self.inner, scores=4.0 * layers * self.inner * inputs)
                * steps
            )
        return cost

    @property
    def _word(self) -> float:
        return 2.0 * self.width * self.vocabulary


def at_least(least: float, number: object, name: str) -> float:
    """The number. Raises InvalidInput where it is none, not finite or less."""
    if isinstance(number, bool) or not isinstance(number, int | float | np.number) or not least <= number <= _MOST:
        raise InvalidInput(f"{name} must be a number of at least {least:g}, found {described(number)}")
    return float(number)


_MOST = sys.float_info.max


# ---- config.json

_ENCODERS = "bert roberta xlm-roberta camembert mpnet electra distilbert nomic_bert modernbert"
_DECODERS = "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 olmo olmo2 gpt2 gpt_neox opt smollm3"
_BOTH = "t5 mt5 umt5 bart mbart"
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_ENCODERS.split(), "encoder"),
    **dict.fromkeys(_DECODERS.split(), "decoder"),
    **dict.fromkeys(_BOTH.split(), "encoder-decoder"),
}
_UNGATED_DECODERS = {"gpt2", "gpt_neox", "opt", "phi"}
_POOLED = {"bert", "roberta", "xlm-roberta", "camembert", "mpnet"}

_NAMES = {  # what each figure is called, most common first
    "width": ("hidden_size", "d_model", "n_embd", "dim"),
    "layers": ("num_hidden_layers", "num_layers", "encoder_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "num_heads", "encoder_attention_heads", "n_head", "n_heads"),
    "feed-forward width": ("intermediate_size", "d_ff", "encoder_ffn_dim", "ffn_dim", "n_inner", "hidden_dim"),
    "head width": ("d_kv", "head_dim"),
    "key and value heads": ("num_key_value_heads",),
    "vocabulary": ("vocab_size",),
    "decoder layers": ("num_decoder_layers", "decoder_layers"),
}


def _read(source: Mapping[str, Any] | str | Path) -> Transformer:
    if not isinstance(source, Mapping):
        return _read(_load(as_path(source, "a model's config.json")))
    kind_of = str(source.get("model_type", ""))
    if "num_experts" in source or "num_local_experts" in source:
        raise InvalidInput(f"{kind_of} is a mixture of experts: which of them a token meets is not in its config")
    if kind_of not in _KINDS:
        raise InvalidInput(
            f"expected a config.json whose model_type is one of {', '.join(sorted(_KINDS))}; found {kind_of!r}. "
            f"For another, state its shape: Transformer(kind=…, layers=…, width=…, …)"
        )
    width, heads, layers = (_number(source, figure) for figure in ("width", "heads", "layers"))
    head, shared = _number(source, "head width", width // heads), _number(source, "key and value heads", heads)
    if shared > heads:
        raise InvalidInput(f"expected at most as many heads of keys and values as heads, {heads}, found {shared}")
    return Transformer(
        kind=_KINDS[kind_of],
        layers=layers,
        width=width,
        inner=heads * head,
        key_value=shared * head,
        feed_forward=_number(source, "feed-forward width", 4 * width if kind_of == "gpt2" else None),
        gated=_is_gated(source, kind_of),
        vocabulary=_number(source, "vocabulary", 0),
        decoder_layers=_number(source, "decoder layers", layers) if _KINDS[kind_of] == "encoder-decoder" else 0,
        pooler=kind_of in _POOLED,
        name=str(source.get("_name_or_path") or kind_of),
    )


def _load(path: Path) -> dict[str, Any]:
    path = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"expected a model's config.json, found no file at {path}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidInput(f"expected a model's config.json at {path}, could not read it: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"expected an object in {path}, found {type(found).__name__}")
    return found


def _number(config: Mapping[str, Any], figure: str, otherwise: int | None = None) -> int:
    found = next((config[name] for name in _NAMES[figure] if config.get(name) is not None), otherwise)
    if isinstance(found, bool) or not isinstance(found, int) or not (found == otherwise or 1 <= found < _LARGEST):
        raise InvalidInput(
            f"this config does not say its {figure}: expected a whole number at {' or '.join(_NAMES[figure])}, "
            f"found {described(found)}"
        )
    return found


_LARGEST = 10**9  # no model has as many of anything, and products of so few stay finite


def _is_gated(config: Mapping[str, Any], model_type: str) -> bool:
    said = str(config.get("feed_forward_proj") or config.get("activation_function") or "")
    decoder = _KINDS[model_type] == "decoder" and model_type not in _UNGATED_DECODERS
    return decoder or model_type == "modernbert" or said.startswith("gated") or said == "swiglu"
