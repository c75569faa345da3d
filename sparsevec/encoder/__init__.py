"""The encoder: dense vectors to sparse ones within a stated cost. Training needs torch, encoding does not."""

from sparsevec.encoder.budget import Budget
from sparsevec.encoder.recipe import Listener, Step
from sparsevec.encoder.sparse_encoder import SparseEncoder
from sparsevec.encoder.store import Figures

__all__ = ["Budget", "Figures", "Listener", "SparseEncoder", "Step"]
