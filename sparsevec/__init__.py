"""Sparse vectors for the search cluster you already run, learned to a budget and proved exact.

import sparsevec as sv     # loads neither torch nor a client library
"""

from sparsevec.contract.adapter import Adapter, Hits
from sparsevec.contract.connect import connect
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.exact.reference import Reference
from sparsevec.exact.verify import VerifyReport, verify
from sparsevec.ingestion.ingest import IngestProgress, IngestReport, ingest
from sparsevec.vectors import SparseVector, SparseVectors

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "Budget",
    "Hits",
    "IngestProgress",
    "IngestReport",
    "Reference",
    "SparseEncoder",
    "SparseVector",
    "SparseVectors",
    "VerifyReport",
    "connect",
    "ingest",
    "verify",
]
