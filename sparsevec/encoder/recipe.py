"""Every constant that decides quality, with its reason; how long and how hard to train follows from the sizes alone.

Where a figure stands beside a constant it is what a change costs of the overlap with the dense top 10, on 5,000 Debian
descriptions and one seed, where seeds alone differ by .005.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

__all__ = [
    "AdoptRecipe",
    "CalibrationRecipe",
    "HeadRecipe",
    "NewcomerRecipe",
    "RefineRecipe",
    "ResidualRecipe",
    "SecondLookRecipe",
    "SplitRecipe",
    "adopt_recipe",
    "head_recipe",
    "refine_recipe",
    "shared",
    "spare",
    "tempered",
    "towers_recipe",
]


@dataclass(frozen=True, slots=True)
class SplitRecipe:
    """Which rows are trained on, and which are kept back to calibrate and measure on."""

    trained: int = 32_768  # random rows of a larger corpus or sample: the head's 600 steps see each some eight times
    held_out: int = 512  # the standard error of a recall is then .008, of F two hundredths: see `margin` below
    held_share: int = 8  # at most one in so many: a small collection needs its rows for training
    least_documents: int = 100  # as many as the neighbours a head learns from
    least_queries: int = 50  # of which six are held out; with fewer, documents say more of what will be asked


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """Stages 1 and 2: a linear head for documents and queries, then one for each."""

    stage: str
    steps: int  # half of them cost .02
    spread: float  # R_sub that the controller steers for
    evenness: float  # the regulariser's weight to begin with; about what the controller ends at, so that it only trims
    documents: int = 64  # anchors a step; with their neighbours about 450 documents, enough strangers to rank
    queries: int = 256
    noisy: float = 0.67  # share of the queries that are moved, so that a small sample is not learned by heart
    positives: int = 3  # neighbours drawn for each anchor: fewer, and a batch holds nothing that is hard to tell apart
    neighbours: int = 100  # of which they are drawn: those that a re-ranking of 100 candidates must have
    temperature: float = 0.05  # of the teacher, dense cosines over this, at most: see `tempered`
    query_share: float = 0.7  # of the matching loss; documents have the rest, since queries are what will be asked
    reconstruction: float = 30.0  # keeps every dimension meaning something; the same order as the matching loss
    rate: float = 3e-3
    warm_up: int = 50  # steps: Adam's second moments need some before its steps can be trusted
    floor: float = 0.02  # of the rate, at the end of the cosine; at 0 the last steps would do nothing
    clip: float = 5.0  # a batch of near copies has gradients ten times as long
    seed_noise: float = 0.3  # on the documents that dimensions start as, in standard deviations: twins must differ
    decoder: float = 0.1  # of the encoder's weights: codes grow into it
    student_scale: float = 10.0  # of sparse cosines to begin with; it is learned
    smoothing: float = 0.03  # of the shares that the controller sees: about 30 batches, so that rare ones are counted
    gain: float = 0.02  # of the controller: a tenth in five steps where R_sub is 1.3 times the aim
    least_weight: float = 1.0  # of the regulariser: it never lets go of the dimensions
    most_weight: float = 300.0  # ten times the usual: codes that cannot be evened out must not stop learning
    longer: float = 1.7  # queries in training, times what the budget pays for: they learn to avoid dear dimensions
    checkpoint_every: int = 50  # steps lost at most


@dataclass(frozen=True, slots=True)
class RefineRecipe:
    """Stage 3: document weights free on fixed dimensions, and the queries' tower with them."""

    epochs: int  # twice as many gain .006 for twice the time
    spare: int  # dimensions a document starts with beyond its budget; the weakest go
    copies: int = 2  # of every query, an epoch, moved towards one like it, each with its own nearest documents
    least_share: float = 0.1  # of them and the sample among all that ask in a large corpus: at .015 they lose .03
    batch: int = 256
    least_steps: int = 200  # a small corpus has epochs of a few steps
    neighbours: int = 100
    random: int = 100  # candidates a query is judged on, beside its nearest
    drawn: int = 2048  # random documents a batch, of which each query gets its own: fewer would repeat within a batch
    temperature: float = 0.05  # at most; .03 costs .015, .08 costs .012
    price: float = 0.0015  # of a query's weight at a dimension that as many documents use as on average; twice is alike
    document_rate: float = 4e-3  # twice is alike (-.002)
    alone_rate: float = 1e-2  # where only what a step touches moves, without momentum in between; 4e-3 costs .006
    query_rate: float = 1e-3  # twice costs .004: the tower has less to unlearn than the documents
    scale_rate: float = 1e-2
    student_scale: float = 18.0  # about where the head's ends
    alike: int = 10  # queries that one is mixed with: further ones ask for something else
    reach: float = 0.7  # of the noise on mixtures of queries; 1 is what the head's noisy queries get
    searched: int = 50_000  # documents at most, of which all pairs are compared, and mixtures with all in each epoch
    looked: int = 20_000  # of more, a document's nearest are looked for among so many: of 200,000 .73 are found
    wide: int = 400  # of more, they are looked for among so many of each of its two queries: .001 to .006 are missed
    all_moved: int = 200_000  # documents at most that each step moves, by momentum; of more, those that it touches
    longer: float = 1.7  # as the head's
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam: a document is met a few times an epoch, .999 would lag behind
    checkpoint_every: int = 50


@dataclass(frozen=True, slots=True)
class SecondLookRecipe:
    """The map that re-orders candidates. Figures: overlap with the dense top 10, 2,000 unseen queries, 20,000 rows."""

    ridge: float = 0.3  # of the decoder that the map starts as; 1 costs .015
    decoder_steps: int = 40  # of conjugate gradients
    decoded: int = 32_768  # documents at most that the decoder is fitted to: four for each of 8,192 dimensions
    shrink: float = 0.88  # of the decoder: codes of queries are noisier than those it was fitted to
    first: float = 0.3  # of the sparse score, to begin with; learned
    steps: int = 500
    batch: int = 96
    rate: float = 2e-4  # 1e-4 costs .005, 1e-3 .016: it must stay near the decoder
    first_rate: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam: 500 steps are too few for .999
    temperature: float = 0.03  # at most, of teacher and student alike: both are dense products, or near
    candidates: int = 100  # of each query, to be re-ordered
    checkpoint_every: int = 50
    most_own: int = 7000  # documents that ask, too: what keeps a sample from being learned by heart


@dataclass(frozen=True, slots=True)
class ResidualRecipe:
    """Residual codes. Figures: overlap with the dense top 10 at 60 bytes, 2,000 queries kept out, 20,000 rows."""

    ridge: float = 0.5  # of the decoder beside the head's weights; less learns the documents by heart, 2 costs .004
    decoder_steps: int = 20  # of conjugate gradients, which start at the head
    unasked: float = 0.03  # of the mean direction's share, for directions in which no query of the sample asks
    weak: float = 0.3  # of the water level: weaker components are left out
    rows: int = 8192  # that codewords are placed by, 32 a codeword
    least_rows: int = 2048  # below, codewords stay products of scalar quantisers
    moves: int = 8  # of codewords to the means; none costs .005
    candidates: int = 300  # that its figure is measured on


@dataclass(frozen=True, slots=True)
class NewcomerRecipe:
    """Documents that come after refining. Figures: share found of 4,000 Debian descriptions after 16,000 were refined,
    at the factor where the fitted ones lose as much as they do beside the head's codes of newcomers."""

    asking: int = 6000  # rows that ask, at most, half of them of the sample: 18 MB; 3,000 cost .015
    near: int = 128  # of these, whom a newcomer is fitted to; 200 are alike; at most 512, so that sums are exact
    strangers: int = 100  # of a row that asks, beside its nearest, as in refining
    steps: int = 40  # of Adam; 20 cost .02 and save a third of the time
    rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    tried: int = 2000  # documents taken for newcomers to find the factor by
    tried_share: int = 8  # at most one in so many
    returned: float = 1.3  # newcomers in top tens for each that should be, as by the head; 1 finds .006 more of all


@dataclass(frozen=True, slots=True)
class AdoptRecipe:
    """Queries of another model. Figures: nDCG@10 of 2,000 unseen queries, static rows in MiniLM's 20,000 documents."""

    steps: int  # twice as many are alike
    ridge: float = 1.0  # of the map that learning starts from; less is alike
    batch: int = 256
    documents: int = 1024  # that each row is told apart from, beside the batch's own pairs; all 20,000 cost .01
    map_rate: float = 2e-3  # twice is alike
    tower_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam: 500 steps are too few for .999
    temperature: float = 0.03  # at most, of dense teacher and student alike: .05 costs .01, .08 costs .055
    sparse_scale: float = 25.0  # of sparse cosines; 14 costs .02, and lower ones leave a part of the budget unspent
    longer: float = 1.7  # as the head's


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """How the budget is made true, and on how many rows it and the figures are measured."""

    longest: float = 4.0  # queries looked at, times what the budget pays for at the usual price
    other_kinds: float = 1.04  # of F, that a query may spend at most, of whatever kind
    filled: float = 0.998  # of nnz: a cut that leaves so much of it in the mean is long enough
    document_sixteenths: int = 14  # power of a head's weights: strong ones count less
    query_sixteenths: int = 12
    refined_sixteenths: int = 16  # of queries: refining has learned how much strong weights count
    most_measured: int = 200_000  # documents that F and the figures are measured on: fewer have other neighbours
    least_touched: int = 50  # weights in all that a query may meet in a collection too small to learn from: F times n
    fewer: int = 2  # times fewer weights than learned for lose .01 of R10; four times fewer lose .03 to .05
    more: int = 4  # times more weights lose .02, and .04 of the answers; twice as many lose .005, and .026
    usage_rows: int = 2000  # rows of which usage and lengths are estimated before training

    def reaches(self, learned: int, nnz: int) -> bool:
        """Whether an encoder that was learned for so many weights is taken with `nnz`."""
        return learned / self.fewer <= nnz <= self.more * learned


def head_recipe(n: int, output_dim: int, nnz: int) -> HeadRecipe:
    """Steps fall with the width (wider heads overfit sooner) and with few rows; long codes spread more evenly."""
    by_width = 600 * 8192 / output_dim
    by_rows = 30 * n / 450  # a step sees about 450 documents
    return HeadRecipe(
        "head",
        steps=round(max(150.0, min(by_width, by_rows, 1000))),
        spread=1 + math.sqrt(output_dim / nnz) / 16,
        evenness=30.0 * (output_dim / 8192) ** 0.6,  # F~ of even codes falls with the width, its weight must rise
    )


_Tempered = TypeVar("_Tempered", HeadRecipe, RefineRecipe, SecondLookRecipe, AdoptRecipe)
_USUAL, _LEAST = 0.045, 0.002


def tempered(recipe: _Tempered, spread: float) -> _Tempered:
    """The recipe with a temperature that can tell a row's nearest apart.

    spread: the mean standard deviation of a row's nearest similarities. It is .047 for MiniLM on 20,000 texts, where
    the recipes' temperatures were found, and a tenth of that where all rows share a direction: the temperature falls
    with it. At a mean cosine of .91 that is worth .16 of overlap to the head and .37 after refining (1,200 texts). A
    wider spread, as tight clusters have, keeps the temperature: a softer teacher costs .03 there. Rows that are all
    alike have nothing to tell apart, so the spread counts as .002 at least.
    """
    return replace(recipe, temperature=recipe.temperature * min(1.0, max(spread, _LEAST) / _USUAL))


def towers_recipe(head: HeadRecipe) -> HeadRecipe:
    """Half as long and more gently. Two sides that may differ meet more evenly: a quarter of the head's excess."""
    return replace(head, stage="towers", steps=head.steps // 2, rate=1e-3, spread=1 + (head.spread - 1) / 4)


def adopt_recipe(pairs: int) -> AdoptRecipe:
    """Fewer steps for few pairs, which would be learned by heart."""
    by_rows = 30 * pairs / 256  # a step sees a batch
    return AdoptRecipe(steps=round(max(150.0, min(by_rows, 500.0))))


def spare(nnz: int) -> int:
    """Dimensions that a document starts with beyond its budget, when its weights are fitted."""
    return max(1, nnz // 5)


def refine_recipe(output_dim: int, nnz: int, documents: int = 0) -> RefineRecipe:
    """Wide codes need fewer epochs, as the head.

    A large corpus takes more steps an epoch, and half the epochs: on 100,000 and 200,000 rows the other half adds
    nothing. Its rows, as longer ones, have more weights that reach zero on the way: of 38 weights 27.8 are left in the
    mean of 200,000 rows.
    """
    epochs = max(2, round(6 * min(1.0, math.sqrt(8192 / output_dim))))
    recipe = RefineRecipe(epochs=epochs, spare=spare(nnz))
    if documents <= recipe.searched:
        return recipe
    seldom = recipe.checkpoint_every * round(documents / recipe.searched)  # the file of the weights grows with them
    return replace(recipe, epochs=max(2, epochs // 2), spare=2 * recipe.spare, checkpoint_every=seldom)


def shared(recipe: RefineRecipe, sample: int, documents: int) -> RefineRecipe:
    """With more copies of a small sample, where the documents that ask would leave it a share below `least_share`."""
    if not sample or documents <= recipe.searched:
        return recipe
    asking = recipe.least_share / (1 - recipe.least_share) * documents
    return replace(recipe, copies=max(recipe.copies, math.ceil(asking / sample) - 1))
