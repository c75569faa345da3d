"""Training with a backbone: the parts of a loss, and the loop that puts them together. Needs torch."""

from sparsevec.training.loop import Objective, Plan, TrainStep, train
from sparsevec.training.tower import SparseTower

__all__ = ["Objective", "Plan", "SparseTower", "TrainStep", "train"]
