"""`Config`: what a model says of itself in `config.json`: sizes, budget, cuts, and the `Figures` that were measured."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from sparsevec.encoder.head import Cut, Purse
from sparsevec.measure.intervals import Interval
from sparsevec.measure.recall import Evaluation
from sparsevec.similarity import Near

__all__ = [
    "FORMAT",
    "AdoptedConfig",
    "Config",
    "CutConfig",
    "Figures",
    "KindOfQuery",
    "NewcomersConfig",
    "ResidualConfig",
    "Stage",
]

FORMAT: Literal["sparsevec.model/2"] = "sparsevec.model/2"
_FOREIGN = 0.12  # of agreement: with Debian, MiniLM's off-topic queries have .18 and more, turned or random rows .01
_MUCH = 0.04  # of the dense top 10 less than a scan finds, before it is said aloud
Stage: TypeAlias = Literal["untrained", "head", "refined"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CutConfig(_Strict):
    """`head.Cut`, as JSON."""

    cap: int = Field(ge=1)
    threshold: float = Field(ge=0, le=1)
    sixteenths: int = Field(ge=1, le=16)
    spend: float | None = Field(default=None, gt=0)
    """of queries: what one may spend, in multiplications a document; None in models of before there were purses"""

    @classmethod
    def of(cls, cut: Cut, purse: Purse | None = None) -> CutConfig:
        spend = None if purse is None else purse.spend
        return cls(cap=cut.cap, threshold=cut.threshold, sixteenths=cut.sixteenths, spend=spend)

    def cut(self) -> Cut:
        return Cut(self.cap, self.threshold, self.sixteenths)


class ResidualConfig(_Strict):
    """Residual codes, see `encoder.residual`."""

    bytes: int = Field(ge=3)
    """of a document's code"""
    groups: tuple[int, ...]
    """components of each codeword"""
    name: str
    """of the codes: other tensors make others"""
    signed: bool = False
    """whether the first byte of a code speaks of all the others, too; of models that were learned before it does not"""


class NewcomersConfig(_Strict):
    """How documents that come after refining are fitted, see `encoder.newcomers`, and what that brings them."""

    asking: int = Field(ge=1)
    """rows that are kept"""
    weights: int = Field(ge=1)
    """of their codes together"""
    scale: float = Field(gt=0)
    temperature: float = Field(gt=0)
    factor: float = Field(gt=0)
    pairs: int
    """of a query and a document that it should find, taken for a newcomer, which the head has not seen"""
    found: float
    """share of these in the sparse top 10; it flatters, since the queries' tower has met these documents"""
    found_interval: Interval
    found_by_head: float
    """of the same pairs, in the head's codes"""
    found_refined: float
    """of the same pairs, as refining left them"""


class AdoptedConfig(_Strict):
    """Queries of another model than the documents', see `encoder.adopting`."""

    columns: int = Field(ge=1)
    """of a row of the other model"""
    pairs: int = 0
    """learned from"""
    own_recall_10: float = 0.0
    """recall_10 of the same pairs, asked by the documents' own model"""
    own_recall_10_at_100: float = 0.0
    answer_ndcg_10: float = 0.0
    """nDCG@10 of the document that is nearest to a pair's own row: its answer, or the same text"""
    second_look_ndcg_10: float | None = None
    """of that in the order of the second look"""
    own_ndcg_10: float = 0.0
    """of that, asked by the documents' own model"""


KindName: TypeAlias = Literal["sample", "documents", "off-topic"]


class KindOfQuery(_Strict):
    """What one kind of queries finds and costs, beside a scan of one bit a component, which needs no learning."""

    kind: KindName
    """off-topic: mixtures of two documents that have nothing to do with each other, and noise"""
    queries: int
    recall_10: float
    recall_10_at_100: float
    recall_10_at_100_interval: Interval
    flops: float
    query_active_dims: float
    scan_recall_10: float
    scan_recall_10_at_100: float


_ASKED: dict[KindName, str] = {
    "sample": "queries of the sample",
    "documents": "documents as queries",
    "off-topic": "off-topic queries",
}


class Figures(Evaluation):
    """Measured with queries that were not trained on; `fit`, `refine`, the model card and `config.json` have these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: Literal["sample", "documents", "pairs"]
    """who asked: queries of the sample; or held-out documents in their place, which flatters where queries are short;
    or rows of an adopted model, for what their pairs find"""
    kinds: tuple[KindOfQuery, ...] = ()
    """whoever else may ask, too"""
    allowed_flops: float | None = None
    """of the budget, unless queries are kept shorter than it pays for"""
    refined_recall_10: float | None = None
    """recall_10 of what refining made, where the head was better and was kept"""
    refined_loses: KindName | None = None
    """the kind of queries for whose sake the head was kept: refining took more of its candidates than it gave others"""
    refined_loss: float = 0.0
    """what it took: of the share of the dense top 10 in the sparse top 100"""
    untrained_recall_10: float | None = None
    """recall_10 of directions of random documents for the same budget: what needs no learning"""
    head_recall_10: float | None = None
    """recall_10 of the same queries before the weights were fitted to the corpus; of a head, its own"""
    second_look_recall_10: float | None = None
    """recall_10 of the sparse top 100, re-ordered by the second look"""
    residual_recall_10: float | None = None
    """recall_10 of the sparse top 300, re-ranked by residual codes"""
    refined_is_worse: bool = False
    """refining did less than the head"""
    learned_recall_10: float | None = None
    """recall_10 of the head, where no learning was better and was kept"""
    collapsed: str | None = None
    """why learning ended early, with nothing to keep"""
    sample_agreement: float | None = None
    """how far the sample spreads in the directions in which documents do, see `figures.agreement`; None without any"""
    too_few: bool = False
    """there were too few documents to learn from"""
    own_directions: bool = False
    """documents asked in place of queries, whose own directions were among those refined from"""
    of_themselves: Interval | None = None
    """what refined documents, those learned from among them, find of each other: what `judge` compares with"""
    seconds: float
    """of training"""

    def __str__(self) -> str:
        return "; ".join([self.text, *self.warnings])

    @property
    def text(self) -> str:
        """The figures in words, without the warnings."""
        who = {
            "sample": "queries of the sample",
            "documents": "documents asked as queries, for want of a sample,",
            "pairs": "pairs of the adopted model",
        }[self.asked]
        between = "" if self.recall_10_interval is None else f" ({self.recall_10_interval})"
        if not self.queries:
            return f"{self.active_dims:.1f} weights a document, nothing to measure with"
        again = self.second_look_recall_10
        looked = "" if again is None else f", {again:.3f} at a second look"
        coded = self.residual_recall_10
        looked += "" if coded is None else f", {coded:.3f} by residual codes"
        return (
            f"{self.active_dims:.1f} weights a document, {self.query_active_dims:.1f} a query, F {self.flops:.3f}, "
            f"recall@10 {self.recall_10:.3f}{between}{looked}, @100 {self.recall_10_at_100:.3f} "
            f"on {self.queries} {who} not learned from"
        )

    @property
    def warnings(self) -> list[str]:
        """What speaks against using this model, in words; nothing where all is well."""
        said = []
        if self.too_few:
            said.append(
                f"{self.documents} documents are too few to learn from: codes that need no learning serve, each "
                "document has a dimension of its own, later ones are found less often; fit again when there are more"
            )
            if self.documents and self.allowed_flops is not None:
                said.append(f"for so few, queries may spend F {self.allowed_flops:.3g}, on later documents too")
        if self.sample_agreement is not None and self.sample_agreement < _FOREIGN:
            said.append(
                f"the sample of queries seems to come from ANOTHER MODEL: it shares {self.sample_agreement:.2f} of the "
                f"documents' directions, where queries of the same model share {_FOREIGN} and more, off-topic ones "
                "too; embed both with one model, or leave queries out"
            )
        if self.refined_loses is not None:
            said.append(
                f"refining gave {self.refined_recall_10:.3f} and took {self.refined_loss:.3f} of the candidates of "
                f"{_ASKED[self.refined_loses]}, so the head was kept"
            )
        elif self.refined_recall_10 is not None:
            said.append(f"refining gave less ({self.refined_recall_10:.3f}) than the head, which was kept")
        elif self.refined_is_worse and self.collapsed is not None:
            said.append(f"refining collapsed ({self.collapsed}), and the head was kept")
        elif self.refined_is_worse:
            said.append(f"refining made it WORSE than the head ({self.head_recall_10:.3f}): keep the head")
        if self.allowed_flops is not None and self.flops < 0.95 * self.allowed_flops and not self.too_few:
            said.append(
                f"queries spend F {self.flops:.3g} of the {self.allowed_flops:.3g} allowed: of their activations no "
                "other is positive, or none fits into what is left"
            )
        if self.own_directions:
            said.append(
                "documents that asked have directions of their own in what was refined, so others find less than these "
                "figures say; a sample of queries would have told"
            )
        if self.second_look_recall_10 is not None and self.second_look_recall_10 < self.recall_10:
            said.append(f"the second look is WORSE ({self.second_look_recall_10:.3f}): search with rerank=None")
        if self.collapsed is not None and not self.refined_is_worse:
            said.append(
                f"learning collapsed ({self.collapsed}), and codes that need no learning serve: the rows have few "
                "directions, or one is far longer than the others"
            )
        elif self.learned_recall_10 is not None:
            said.append(f"learning gave less ({self.learned_recall_10:.3f}) than no learning, which was kept")
        elif self.untrained_recall_10 is not None and self.recall_10 < self.untrained_recall_10:
            said.append(f"WORSE than without learning ({self.untrained_recall_10:.3f}): do not use it")
        said += [
            f"asked by {_ASKED[kind.kind]}, a scan of 1 bit a component finds more in 100 "
            f"({kind.scan_recall_10_at_100:.3f} against {kind.recall_10_at_100:.3f})"
            for kind in self.kinds
            if kind.recall_10_at_100_interval.high < kind.scan_recall_10_at_100 - _MUCH
        ]
        return said


class Config(_Strict):
    """`config.json`."""

    format: Literal["sparsevec.model/2"] = FORMAT
    input_dim: int = Field(ge=1)
    output_dim: int = Field(ge=1)
    seed: int
    nnz: int = Field(ge=1)
    flops: float = Field(gt=0)
    query_nnz: int | None = Field(default=None, ge=1)
    """weights that a query has at most; None leaves it to `flops`"""
    similarity: Near = "cosine"
    """of the dense search whose order is learned"""
    stage: Stage
    documents: CutConfig
    queries: CutConfig
    figures: Figures
    learned_nnz: int | None = None
    """weights of a document that were learned for, where `at` made another number of it"""
    second_look: float | None = None
    """the share of the first score in the second; None for a model without a second look"""
    residual: ResidualConfig | None = None
    """None for a model without residual codes"""
    newcomers: NewcomersConfig | None = None
    """None where later documents have the head's codes"""
    adopted: AdoptedConfig | None = None
    """None where queries come from the documents' own model"""
    fingerprint: str = ""
    """names the space of the documents: made by `fit`, kept by `refine`"""
    tensors_sha256: str = ""
    config_sha256: str = ""
    """of all the others, as they are written"""
