"""What a search costs: FLOPs by term against counts that others made, stages, and milliseconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

import sparsevec as sv
from sparsevec.contract.adapter import Hits
from sparsevec.errors import InvalidInput, InvalidVectors
from sparsevec.planning import outlook, stages
from sparsevec.planning.latency import LatencyModel, features, latency_model
from sparsevec.planning.stages import (
    Pipeline,
    Stage,
    dense_rerank,
    embedding,
    model_rerank,
    quality_per_petaflop,
    queries_per_petaflop,
    residual_rerank,
    retrieval,
    second_look_rerank,
    sparse_head,
)
from sparsevec.planning.transformers import Transformer

CALLS = Path(__file__).parents[2].parent / "shared/data/e2r_flops/rerank_calls.jsonl.gz"

MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
}

# ---- counted by others: calls of re-rankers whose FLOPs a profiler counted

QWEN = {  # layers, width, feed-forward, query heads to a kv head, vocabulary
    "3B": (36, 2048, 11008, 8, 151936),
    "7B": (28, 3584, 18944, 7, 152064),
    "14B": (48, 5120, 13824, 5, 152064),
}
FLAN = {"large": (24, 1024, 2816, 1024), "xl": (24, 2048, 5120, 2048), "xxl": (24, 4096, 10240, 4096)}


@pytest.fixture(scope="module")
def calls() -> dict[str, list[dict[str, Any]]]:
    if not CALLS.exists():
        pytest.skip(f"the counted calls of E2R-FLOPs are not at {CALLS}")
    found: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(CALLS, "rt") as lines:
        for call in map(json.loads, lines):
            found.setdefault(call["model"], []).append(call)
    return found


def pairs(calls: list[dict[str, Any]]) -> Iterator[tuple[int, int, float]]:
    for call in calls:
        yield from zip(call["input_tokens"], call["output_tokens"], call["published_flops"], strict=True)


@pytest.mark.parametrize("model", QWEN)
def test_a_decoder_costs_what_a_profiler_counted_to_a_thousandth(
    calls: dict[str, list[dict[str, Any]]], model: str
) -> None:
    layers, width, feed_forward, grouped, vocabulary = QWEN[model]
    shape = Transformer("decoder", layers, width, width, width // grouped, feed_forward, True, vocabulary)
    off = []
    for inputs, outputs, counted in pairs(calls[model]):
        cost = shape.flops(inputs, outputs)
        off.append((cost.total - cost.scores) / counted - 1)  # the profiler did not see into the fused attention
    assert len(off) > 2000
    assert np.abs(off).max() < 1e-3


@pytest.mark.parametrize("model", FLAN)
def test_an_encoder_decoder_costs_what_a_profiler_counted_to_a_thousandth(
    calls: dict[str, list[dict[str, Any]]], model: str
) -> None:
    layers, width, feed_forward, inner = FLAN[model]
    shape = Transformer(
        "encoder-decoder", layers, width, inner, inner, feed_forward, True, 32128, decoder_layers=layers
    )
    off = [  # the first of its output tokens is the one that starts the decoder
        shape.flops(inputs, outputs - 1).total / counted - 1 for inputs, outputs, counted in pairs(calls[model])
    ]
    assert len(off) > 2000
    assert np.abs(off).max() < 1e-3


# ---- counted here: real architectures, eager attention, by torch's own counter


def counted(model: torch.nn.Module, **inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return int(counter.get_total_flops())


def build(factory: Any, config: dict[str, Any]) -> torch.nn.Module:
    fields = {key: value for key, value in config.items() if key != "model_type"}
    shape = AutoConfig.for_model(config["model_type"], **fields)
    model: torch.nn.Module = factory.from_config(shape, attn_implementation="eager")
    return model.eval()


def tokens(n: int) -> torch.Tensor:
    return torch.arange(2, n + 2)[None]


def test_the_pipeline_that_the_module_shows_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "\n".join(line[4:] for line in (stages.__doc__ or "").splitlines() if line.startswith("    "))
    exec(shown, vars(stages) | {"minilm": Transformer.from_config(MINILM)})
    assert "sparse head" in capsys.readouterr().out


@pytest.mark.parametrize("n", [16, 128, 512])
def test_minilm_costs_what_torch_counts(n: int) -> None:
    there = counted(build(AutoModel, MINILM), input_ids=tokens(n))
    assert Transformer.from_config(MINILM).flops(n).total == pytest.approx(there, rel=0.005)


SMALL: dict[str, dict[str, Any]] = {
    "distilbert": {"model_type": "distilbert", "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    "modernbert": {
        "model_type": "modernbert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "pad_token_id": 0,
        "vocab_size": 500,
    },
    "qwen3 without its vocabulary": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 160,
        "vocab_size": 500,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500},
}


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_other_shapes_cost_what_torch_counts(config: dict[str, Any]) -> None:
    there = counted(build(AutoModel, config), input_ids=tokens(100))
    assert Transformer.from_config(config).flops(100).total == pytest.approx(there, rel=0.005)


def test_a_generated_token_pays_for_the_vocabulary() -> None:
    config = SMALL["qwen3 without its vocabulary"]
    model = build(AutoModelForCausalLM, config)
    there = counted(model, input_ids=tokens(100), logits_to_keep=1)  # type: ignore[arg-type]
    assert Transformer.from_config(config).flops(100, outputs=1).total == pytest.approx(there, rel=0.005)


def test_a_step_of_an_encoder_decoder_costs_what_torch_counts() -> None:
    config = {
        "model_type": "t5",
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 8,
        "feed_forward_proj": "gated-gelu",
        "vocab_size": 500,
    }
    fields = {key: value for key, value in config.items() if key != "model_type"}
    factory: Any = AutoModelForSeq2SeqLM
    model = factory.from_config(AutoConfig.for_model("t5", **fields)).eval()
    there = counted(model, input_ids=tokens(100), decoder_input_ids=tokens(1))
    assert Transformer.from_config(config).flops(100, outputs=1).total == pytest.approx(there, rel=0.005)


def test_a_config_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MINILM))
    read = [Transformer.from_config(source) for source in (MINILM, tmp_path, str(tmp_path / "config.json"))]
    assert read == [read[0]] * 3
    assert read[0].pooler


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"model_type": "tractor"}, "model_type"),
        ({**MINILM, "hidden_size": None}, "does not say its width"),
        ({**MINILM, "num_hidden_layers": -6}, "whole number"),
        ({**MINILM, "intermediate_size": "many"}, "does not say its feed-forward width"),
        ({**MINILM, "hidden_size": 10**400}, "does not say its width"),
        ({**MINILM, "head_dim": "wide"}, "does not say its head width"),
        ({**MINILM, "vocab_size": "all"}, "does not say its vocabulary"),
        ({**MINILM, "num_key_value_heads": [2]}, "does not say its key and value heads"),
        ({**MINILM, "num_key_value_heads": 13}, "at most as many heads of keys and values as heads, 12, found 13"),
        ({**MINILM, "model_type": "t5", "num_decoder_layers": "two"}, "does not say its decoder layers"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
    ],
)
def test_a_config_that_does_not_say_what_is_needed_is_refused(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Transformer.from_config(broken)


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"a model's config\.json must be the path"):
        Transformer.from_config(None)  # type: ignore[arg-type]
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "torn.json").write_text("{")
    for name, said in (("list.json", "an object"), ("torn.json", "could not read"), ("none.json", "no file")):
        with pytest.raises(InvalidInput, match=said):
            Transformer.from_config(tmp_path / name)


def test_tokens_are_counted_and_an_encoder_generates_none() -> None:
    shape = Transformer.from_config(MINILM)
    for inputs, outputs in ((0, 0), (-1, 0), (float("nan"), 0), (10, 1)):
        with pytest.raises(InvalidInput):
            shape.flops(inputs, outputs)


# ---- stages


def test_a_pipeline_adds_its_stages_up() -> None:
    minilm = Transformer.from_config(MINILM)
    pipeline = Pipeline(
        (
            embedding(minilm, 128, 16, name="MiniLM"),
            sparse_head(384, 8192),
            retrieval(20_000, 0.63),
            residual_rerank(100, 384, 8192, 32, 100),
            second_look_rerank(100, 384, 8192, 32),
            dense_rerank(10, 384),
            model_rerank(minilm, 10, 160),
        )
    )
    assert pipeline.query == sum(stage.query for stage in pipeline.stages)
    assert pipeline.document == sum(stage.document for stage in pipeline.stages)
    assert pipeline.stages[1].document == 2 * 384 * 8192
    assert pipeline.stages[2].query == pytest.approx(2 * 20_000 * 0.63)
    assert pipeline.stages[0].document == pytest.approx(2.87e9, rel=0.01)
    assert "MiniLM" in str(pipeline)
    assert "25.2 kFLOP" in str(pipeline)


def test_a_second_look_meets_every_dimension_that_candidates_use() -> None:
    met = 2 * 384 * 8192
    assert second_look_rerank(1, 384, 8192, 32).query == pytest.approx(2 * 384 * 32 + 2 * 32)
    assert second_look_rerank(10_000, 384, 8192, 32).query == pytest.approx(met + 2 * 10_000 * 32)
    coded = residual_rerank(1, 384, 8192, 32, 60)
    assert coded.query == pytest.approx(2 * 384 * (32 + 384 + 256) + 2 * (32 + 60))
    assert coded.document == pytest.approx(2 * 384 * (32 + 384 + 256))
    with pytest.raises(InvalidInput, match="candidates"):
        second_look_rerank(-1, 384, 8192, 32)
    with pytest.raises(InvalidInput, match="residual bytes"):
        residual_rerank(9, 384, 8192, 32, 0)


def test_quality_and_queries_per_petaflop_are_those_of_the_paper() -> None:
    assert queries_per_petaflop([1e12, 3e12]) == pytest.approx(500)
    assert quality_per_petaflop([0.5, 1.0], [1e15, 2e15]) == pytest.approx(0.5)
    assert quality_per_petaflop([0.5, 1.0], 1e14) == pytest.approx(7.5)


def test_costs_that_cannot_be_are_refused() -> None:
    for wrong in (
        lambda: Stage("x", query=-1),
        lambda: Pipeline(()),
        lambda: retrieval(-1, 0.5),
        lambda: queries_per_petaflop([0.0]),
        lambda: quality_per_petaflop([], 1e9),
        lambda: quality_per_petaflop([0.1, 0.2, 0.3], [1e9, 1e9]),
        lambda: quality_per_petaflop(["good"], 1e9),
        lambda: queries_per_petaflop("many"),
    ):
        with pytest.raises(InvalidInput):
            wrong()


# ---- milliseconds


class Slow(sv.Reference):
    """A reference whose clock says that a search took what the model of the docstring says."""

    coefficients = (1.0, 0.05, 2e-5, 1e-4, 0.01)
    now = 0.0
    documents: sv.SparseVectors

    def search(self, queries: Any, k: int = 10, **options: Any) -> list[Hits]:
        base, *rest = self.coefficients
        self.now += (base + float((features(queries, self.documents, k) @ rest).sum())) / 1e3
        return super().search(queries, k, **options)


@pytest.fixture(scope="module")
def documents() -> sv.SparseVectors:
    rng = np.random.default_rng(5)
    rows = np.zeros((600, 128), np.float32)
    popular = rng.dirichlet(np.full(128, 0.7))
    for row in rows:
        row[rng.choice(128, 6, replace=False, p=popular)] = rng.uniform(0.1, 1, 6)
    return sv.SparseVectors.from_dense(rows)


@pytest.fixture
def slow(documents: sv.SparseVectors) -> Iterator[Slow]:
    with Slow() as engine:
        engine.create(documents.dimension)
        engine.upsert(range(len(documents)), documents)
        engine.documents = documents
        yield engine


def test_the_model_finds_what_an_engine_takes(slow: Slow, documents: sv.SparseVectors) -> None:
    model = latency_model(slow, documents, rounds=1, clock=lambda: slow.now)
    assert model.coefficients == pytest.approx(slow.coefficients, rel=1e-6, abs=1e-9)
    assert model.error_95 < 1e-6
    assert model.probes == 81
    assert "a posting" in str(model)


def test_postings_and_touched_documents_are_counted(documents: sv.SparseVectors) -> None:
    asked = documents[:5]
    dense, queries = documents.to_dense() != 0, asked.to_dense() != 0
    together = queries.astype(int) @ dense.T.astype(int)
    expected = np.column_stack(
        [queries.sum(1), together.sum(1), (together > 0).sum(1), np.minimum(20, (together > 0).sum(1))]
    )
    assert features(asked, documents, 20).tolist() == expected.tolist()


def test_a_query_without_weights_touches_nothing(documents: sv.SparseVectors) -> None:
    empty = sv.SparseVectors([0, 0, 0], [], [], documents.dimension)
    assert features(empty, documents, 10).tolist() == [[0.0] * 4] * 2


def test_it_warns_where_multiplications_are_not_the_time(slow: Slow, documents: sv.SparseVectors) -> None:
    model = latency_model(slow, documents, rounds=1, clock=lambda: slow.now)
    counted = features(documents[:50], documents, 10)
    shares = model.shares(counted)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["lists"] > shares["postings"]
    assert "F is" in str(model.warning(counted))
    busy = model.model_copy(update={"per_posting": 1.0})
    assert busy.warning(counted) is None


@pytest.mark.parametrize(
    ("dear", "advice"),
    [("per_list", "shorter queries"), ("per_hit", "ask for fewer hits"), ("base", "several queries at once")],
)
def test_it_advises_to_save_what_takes_the_time(dear: str, advice: str) -> None:
    told: dict[str, Any] = dict.fromkeys(("base", "per_list", "per_posting", "per_touched", "per_hit"), 0.001)
    told |= {"engine": "x", "documents": 600, "probes": 81, "error_median": 0, "error_95": 0, dear: 10.0}
    model = LatencyModel.model_validate(told)
    assert advice in str(model.warning([50, 300, 250, 100]))
    assert model.doubt is None
    assert "do not budget by this" in str(model.model_copy(update={"error_95": 0.6}).doubt)


def test_an_engine_that_answers_no_probe_is_refused(documents: sv.SparseVectors) -> None:
    with sv.Reference() as empty:
        empty.create(documents.dimension)
        with pytest.raises(InvalidInput, match="no probe found a document"):
            latency_model(empty, documents, rounds=1)


def test_documents_without_weights_cannot_be_probed() -> None:
    with sv.Reference() as engine, pytest.raises(InvalidInput, match="documents with weights"):
        latency_model(engine, sv.SparseVectors([0, 0], [], [], 8))


@pytest.mark.parametrize("seed", ["x", -1, 0.5])
def test_a_seed_that_is_none_is_refused(documents: sv.SparseVectors, seed: Any) -> None:
    with sv.Reference() as engine, pytest.raises(InvalidInput, match="seed must be a whole number of at least 0"):
        latency_model(engine, documents, seed=seed)


def test_features_of_what_does_not_fit_together_are_refused(documents: sv.SparseVectors) -> None:
    asked = documents[:2]
    with pytest.raises(InvalidVectors, match="queries have dimension 300, documents 128"):
        features(sv.SparseVectors.from_rows([{299: 1.0}], dimension=300), documents, 10)
    with pytest.raises(InvalidVectors, match="expected queries as SparseVectors, found list"):
        features([{1: 1.0}], documents, 10)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="k must be an int of at least 1, found -1"):
        features(asked, documents, -1)
    with pytest.raises(InvalidInput, match="one k for all or one for each of 2 queries, found 3"):
        features(asked, documents, [1, 2, 3])


def test_a_sample_that_is_scaled_up_hands_over_no_more_hits_than_documents_are_touched() -> None:
    scaled = outlook._scaled(np.array([[8.0, 20.0, 10.0, 10.0], [8.0, 900.0, 300.0, 100.0]]), 2.0)
    assert scaled.tolist() == [[8.0, 40.0, 20.0, 20.0], [8.0, 1800.0, 600.0, 100.0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview") / "model"
    rows = np.random.default_rng(0).random((60, 16), np.float32)
    sv.SparseEncoder(16, 128).fit(rows, budget=sv.Budget(nnz=8)).save(folder)
    return folder


def of_rows(n: int) -> sv.Reference:
    """A collection with n dense rows in a field of the payloads."""
    engine, rows = sv.Reference(), np.random.default_rng(1).random((n, 16), np.float32)
    engine.create(128)
    engine.upsert(range(n), sv.SparseVectors([0] * (n + 1), [], [], 128), [{"emb": row.tolist()} for row in rows])
    return engine


@pytest.mark.parametrize("n", [1, 20])
def test_a_preview_of_too_few_documents_says_so_and_takes_real_queries(n: int, model: Path) -> None:
    with of_rows(n) as engine:
        with pytest.raises(InvalidInput, match=f"more than 20 documents .* found {n}; give real queries as queries="):
            sv.preview(engine, dense_field="emb", model=model)
        asked = np.random.default_rng(2).random((3, 16), np.float32)
        assert sv.preview(engine, dense_field="emb", model=model, queries=asked).documents == n


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": "x"}, "seed must be a whole number of at least 0, found 'x'"),
        ({"latency": 5}, "latency must be a sparsevec.LatencyModel, found int"),
        ({"queries": np.empty((0, 16))}, "expected at least one query, found none"),
    ],
)
def test_a_preview_that_makes_no_sense_is_refused(wrong: dict[str, Any], said: str, model: Path) -> None:
    with of_rows(30) as engine, pytest.raises(InvalidInput, match=said):
        sv.preview(engine, dense_field="emb", model=model, **wrong)
