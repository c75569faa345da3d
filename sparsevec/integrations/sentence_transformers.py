"""sentence-transformers: dense models as embedders, our encoder as a module of theirs, our budget as a loss of theirs.

    dense = SentenceTransformer("all-MiniLM-L6-v2")
    model = sparse_encoder(dense, encoder)                        # their SparseEncoder: texts in, our codes out
    model.encode_document(texts); model.save("folder"); SparseEncoder("folder")

    loss = BudgetLoss(model, SparseMultipleNegativesRankingLoss(model), Budget(nnz=64), steps=10_000)

What their models return (COO tensors, lists of them) is taken by `SparseVectors.from_torch`, and so by `ingest`,
`verify` and `evaluate`. Extra `sentence-transformers`, version 6 or later.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import InvalidInput, printable
from sparsevec.integrations.guest import guest

with guest("sentence-transformers", "sentence-transformers"):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import SparseEncoder as TheirSparseEncoder
    from sentence_transformers.base.modules import Module
    from torch import Tensor

from sparsevec.training import BudgetController, Seen, flops, unit

__all__ = ["BudgetLoss", "SparseHead", "embedder", "sparse_encoder"]


def embedder(model: str = "", *, prompt: str | None = None) -> Any:
    """Texts to (n, d) float32 by a SentenceTransformer: its name on the hub or the folder it is in.

    `prompt`: the name of one of its prompts, such as "query". Raises InvalidInput without a model, or for one that is
    not there.
    """
    if not model:
        raise InvalidInput("name a model or its folder: sentence-transformers:all-MiniLM-L6-v2")
    try:
        loaded = SentenceTransformer(model)
    except Exception as error:  # of theirs, of transformers, of safetensors, of the hub
        said = printable(error, 200)
        raise InvalidInput(f"no sentence-transformers model at {model!r:.120}: {said}") from error
    return lambda texts: loaded.encode(texts, prompt_name=prompt, show_progress_bar=False, convert_to_numpy=True)


def sparse_encoder(dense: SentenceTransformer, encoder: SparseEncoder) -> TheirSparseEncoder:
    """The modules of `dense` with our fitted `encoder` behind them, as their SparseEncoder.

    `encode_query` and `encode_document` give our codes; `encode` gives those of documents. Raises NotFitted, and
    InvalidInput when the model's width is not the encoder's.
    """
    width = dense.get_embedding_dimension()
    if width != encoder.input_dim:
        raise InvalidInput(f"the model has {width} columns, the encoder was fitted to {encoder.input_dim}")
    return TheirSparseEncoder(modules=[*dense, SparseHead(encoder)], device=str(dense.device))


class SparseHead(Module):  # type: ignore[misc]
    """Our encoder as the last module of theirs: (b, input_dim) to (b, output_dim), the same bits as `encode_*` gives.

    Saved as our model folder inside theirs. Learned by `fit`, not by their trainer: no gradient passes.
    """

    forward_kwargs = {"task", "max_active_dims"}  # noqa: RUF012  as theirs are

    def __init__(self, encoder: SparseEncoder) -> None:
        super().__init__()
        _ = encoder.config  # raises NotFitted
        self.encoder = encoder

    def forward(
        self, features: dict[str, Any], task: str | None = None, max_active_dims: int | None = None
    ) -> dict[str, Any]:
        """`sentence_embedding` (b, input_dim) becomes (b, output_dim); `task` "query" encodes queries."""
        given: Tensor = features["sentence_embedding"]
        encode = self.encoder.encode_query if task == "query" else self.encoder.encode_document
        codes = encode(given.detach().float().cpu(), max_active_dims)
        features["sentence_embedding"] = torch.from_numpy(codes.to_dense()).to(given.device)
        return features

    def get_sentence_embedding_dimension(self) -> int:
        """How many dimensions a code has."""
        return self.encoder.output_dim

    get_embedding_dimension = get_sentence_embedding_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Nothing of theirs: `config.json` is ours."""
        return {}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  as theirs are called
        """Our model folder, inside theirs."""
        self.encoder.save(Path(output_path) / _FOLDER)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """From a folder that `save` wrote, here or on the hub. Raises ModelBroken."""
        known = {
            name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs
        }
        inside = f"{subfolder}/{_FOLDER}" if subfolder else _FOLDER
        return cls(SparseEncoder.load(cls.load_dir_path(model_name_or_path, subfolder=inside, **known)))


_FOLDER = "sparsevec"


class BudgetLoss(torch.nn.Module):
    """A loss of theirs plus the FLOPs regulariser, at the weight at which the codes meet `budget`.

    The first column of a batch are queries, the others documents, as in their losses. nnz is the documents'; F is
    counted between the queries and the documents of shares smoothed over the batches. steps: in how many the aim falls
    to the budget; a third of the training is a fair choice. weight: to start with, better too low than too high.
    """

    def __init__(
        self, model: TheirSparseEncoder, loss: torch.nn.Module, budget: Budget, *, steps: int, weight: float = 1e-3
    ) -> None:
        """Raises InvalidInput for a loss that takes no embeddings, and what `BudgetController` raises."""
        super().__init__()
        if not hasattr(loss, "compute_loss_from_embeddings"):
            raise InvalidInput(f"{type(loss).__name__} takes no embeddings: expected a sparse loss of theirs")
        self.model, self.loss = model, loss
        self.controller = BudgetController(budget, weight=weight, ramp=steps)
        self.shares: Tensor | None = None  # (2, dimension): of queries and of documents, smoothed

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> dict[str, Tensor]:
        """{"base_loss": (), "flops": ()}, as their trainer adds them up."""
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        queries, documents = columns[0], torch.cat(columns[1:] or columns)
        inner: Any = self.loss
        found = inner.compute_loss_from_embeddings(columns, labels)
        losses: dict[str, Tensor] = found if isinstance(found, dict) else {"base_loss": found}
        cost = flops(unit(queries)) + flops(unit(documents))
        losses["flops"] = self.controller.weight(0) * cost
        if self.training:
            self._saw(queries.detach(), documents.detach())
        return losses

    def _saw(self, queries: Tensor, documents: Tensor) -> None:
        now = torch.stack([(side != 0).float().mean(dim=0) for side in (queries, documents)])
        self.shares = now if self.shares is None else self.shares.lerp(now, _SMOOTHED)
        nnz = float((documents != 0).sum(dim=1).float().mean())
        self.controller.saw(Seen(nnz, float(self.shares[0] @ self.shares[1])))


_SMOOTHED = 0.05  # of each batch's shares into the running ones: F of one batch is too high by nnz / b
