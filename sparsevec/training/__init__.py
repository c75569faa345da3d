"""Training with a backbone: the parts of a loss, and the loop that puts them together. Needs torch.

tower = SparseTower(backbone, width=512, dimension=4096)          # backbone: any nn.Module, inputs -> (b, 512)

def objective(batch):                                             # what you want of it; any loss will do
    codes = tower(batch.images)
    return Objective(triplet(codes, batch.labels, margin=0.1), documents=codes)

weight = BudgetController(Budget(nnz=32), weight=0.1, ramp=3000)  # or quadratic_ramp(λ, steps), or constant(λ)
plan = Plan(steps=10_000, document_regularizer_weight=weight)
for step in train(tower, batches, objective, optimizer, plan, checkpoint="run.checkpoint"):
    log(step)                                                     # loss, nnz, F, spread, …

documents = tower.encode(corpus)                                  # SparseVectors, for any adapter
queries = tower.encode(asked, threshold=0.05)                     # cut otherwise where that pays
"""

from sparsevec.errors import ClientMissing

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ClientMissing.extra("torch", "train") from error

from sparsevec.training.activations import Activation, JumpReLU, relu, soft_threshold, top_k, unit
from sparsevec.training.codes import TopK
from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.losses import ArcFace, info_nce, listwise_kl, margin_mse, relative_error, triplet
from sparsevec.training.regularizers import (
    Regularizer,
    df_flops,
    flops,
    flops_unbiased,
    l0_mask,
    l1,
    pair_flops,
    priced,
)
from sparsevec.training.schedules import BudgetController, Evenness, Schedule, Seen, constant, quadratic_ramp
from sparsevec.training.together import gather
from sparsevec.training.tower import SparseTower

__all__ = [
    "Activation",
    "ArcFace",
    "BudgetController",
    "Evenness",
    "JumpReLU",
    "Objective",
    "Plan",
    "Regularizer",
    "Schedule",
    "Seen",
    "SparseTower",
    "TopK",
    "TrainStep",
    "constant",
    "df_flops",
    "flops",
    "flops_unbiased",
    "gather",
    "info_nce",
    "l0_mask",
    "l1",
    "listwise_kl",
    "margin_mse",
    "pair_flops",
    "priced",
    "quadratic_ramp",
    "relative_error",
    "relu",
    "soft_threshold",
    "top_k",
    "train",
    "triplet",
    "unit",
]
