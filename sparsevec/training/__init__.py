"""Training with a backbone: the parts of a loss, and the loop that puts them together. Needs torch."""

from sparsevec.training.activations import Activation, JumpReLU, relu, soft_threshold, top_k, unit
from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.losses import ArcFace, info_nce, listwise_kl, margin_mse, triplet
from sparsevec.training.regularizers import flops, flops_unbiased, pair_flops
from sparsevec.training.schedules import BudgetController, Schedule, constant, quadratic_ramp
from sparsevec.training.together import gather
from sparsevec.training.tower import SparseTower

__all__ = [
    "Activation",
    "ArcFace",
    "BudgetController",
    "JumpReLU",
    "Objective",
    "Plan",
    "Schedule",
    "SparseTower",
    "TrainStep",
    "constant",
    "flops",
    "flops_unbiased",
    "gather",
    "info_nce",
    "listwise_kl",
    "margin_mse",
    "pair_flops",
    "quadratic_ramp",
    "relu",
    "soft_threshold",
    "top_k",
    "train",
    "triplet",
    "unit",
]
