"""The encoder: dense vectors to sparse ones within a stated cost. Training needs torch, encoding does not."""

from sparsevec.encoder.budget import Budget
from sparsevec.encoder.config import Figures
from sparsevec.encoder.drift import Drift
from sparsevec.encoder.sparse_encoder import SparseEncoder
from sparsevec.progress import Listener, Progress

__all__ = ["Budget", "Drift", "Figures", "Listener", "Progress", "SparseEncoder"]
