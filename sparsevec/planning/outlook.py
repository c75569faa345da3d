"""`preview`: what sparse vectors would cost and find in a collection, from a sample of its own dense rows, before
anything is written."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparsevec.contract.adapter import Adapter
from sparsevec.contract.checks import check_seed
from sparsevec.dense import dense_rows
from sparsevec.encoder import Budget, SparseEncoder
from sparsevec.errors import InvalidInput
from sparsevec.live.beforehand import check_order
from sparsevec.live.folder import Folder
from sparsevec.live.opening import USUAL, opened, place_of
from sparsevec.live.rows import DenseSource, source_name
from sparsevec.live.sample import dense_source, drawn
from sparsevec.measure.cost import cost, document_frequency, touched
from sparsevec.measure.recall import Evaluation, evaluate
from sparsevec.planning.latency import LatencyModel, features
from sparsevec.planning.scratch import probed, server_of
from sparsevec.postings import Float64s
from sparsevec.progress import Listener, check_listener
from sparsevec.vectors import Float32s

__all__ = ["Preview", "preview"]

_LONGEST = 5  # lists that are named
_HITS = 100  # candidates of a query, as a Retriever asks for
_ASKING = 0.1  # share of the sample that asks, where there are no queries
_SMALLER = 4  # the second, smaller corpus that quality is judged on, to see how it changes with size


class Preview(BaseModel):
    """Of a collection as it is, with an encoder that is loaded or learned for this. Nothing was written.

    Figures of cost are means over the queries, and scale with the number of documents; those of quality are of the
    sample, and fall as the number of documents grows: `quality` and `quality_of_a_fourth` say how fast.
    """

    model_config = ConfigDict(frozen=True)

    place: str
    backend: str
    dense: str
    documents: int
    """that were looked at"""
    whole: bool
    """there are no others"""
    sample: int
    asked: int
    """queries; rows of the sample where none were given"""
    fitted: bool
    flops: float
    """F, multiplications of a query-document pair"""
    postings: float
    """that a query reads, of all documents looked at"""
    touched: float
    """share of the documents that a query shares a dimension with"""
    clauses: float
    """weights of a query: lists that it reads"""
    most_clauses: int
    clause_limit: int | None
    longest: tuple[float, ...]
    """shares of the documents in the longest lists"""
    bytes: int
    """of the postings of all documents looked at, 8 bytes a weight; what an engine needs is its own"""
    read_and_encode_seconds: float
    """of all documents looked at, as measured here; a backfill writes them as well, and takes longer"""
    quality: Evaluation
    quality_of_a_fourth: Evaluation
    milliseconds: float | None = None
    """of a query for 100 hits among all documents looked at, where a latency model was given or probed"""
    probed: LatencyModel | None = None
    """of a temporary collection of the sample's codes, which was removed again"""
    slow: str | None = None
    """why F is not the time there"""

    def __str__(self) -> str:
        big, small = self.quality, self.quality_of_a_fourth
        count = f"{self.documents:,} documents" if self.whole else f"at least {self.documents:,} documents"
        longest = ", ".join(f"{share:.1%}" for share in self.longest)
        limit = "" if self.clause_limit is None else f" of {self.clause_limit:,} in one request"
        return "\n".join(
            [
                f"{self.place} on {self.backend}: {count} with dense rows in {self.dense!r}; {self._written}",
                f"  F {self.flops:.3f}; a query reads {self.clauses:.0f} lists (at most {self.most_clauses}{limit}), "
                f"{self.postings:,.0f} postings, and touches {self.touched:.1%} of the documents",
                f"  the longest lists hold {longest} of the documents",
                f"  {self.bytes / 2**20:,.1f} MB of postings, 8 bytes a weight; what the engine needs is its own",
                f"  {self.read_and_encode_seconds:,.0f} s to read and encode, as measured here; writing comes on top",
                f"  among {big.documents:,} rows of the sample: overlap with the dense top 10 {big.recall_10:.3f} "
                f"({big.recall_10_interval}), of the candidates @100 {big.recall_10_at_100:.3f} "
                f"({big.recall_10_at_100_interval}), which is what re-ranking can reach",
                f"  among {small.documents:,}: {small.recall_10:.3f} and {small.recall_10_at_100:.3f}; that is how it "
                f"changes as documents become more",
                *(
                    []
                    if self.milliseconds is None
                    else [f"  {self.milliseconds:.3g} ms a query for 100 hits{self._how}"]
                ),
                *([] if self.slow is None else [f"  {self.slow}"]),
            ]
        )

    @property
    def _written(self) -> str:
        return "nothing was written" if self.probed is None else "nothing was written to it"

    @property
    def _how(self) -> str:
        if self.probed is None:
            return ""
        missed = f"{self.probed.error_median:.0%} (95 of 100: {self.probed.error_95:.0%})"
        return f", probed in a temporary collection of {self.probed.documents:,}; probes not fitted missed by {missed}"


def preview(
    where: str | Adapter,
    *,
    dense_field: DenseSource | None = None,
    model: str | os.PathLike[str] | None = None,
    budget: Budget | None = None,
    output_dim: int = 8192,
    queries: Any | None = None,
    sample: int = 4000,
    seed: int = 0,
    latency: LatencyModel | None = None,
    scratch: bool = False,
    on_progress: Listener | None = None,
    **credentials: Any,
) -> Preview:
    """Read a sample of dense rows and say what a `retrofit` with the same arguments would cost and find.

    `model`: a folder with an encoder; without one, an encoder is learned from the sample and thrown away (the extra
    `train`). `queries` (q, d): real ones; without, a tenth of the sample asks, which no document then is. `latency`: of
    another collection on that engine, to say milliseconds; or `scratch`: make a temporary collection of the sample's
    codes beside this one, probe it, and remove it. Raises what `retrofit` raises before it changes anything.
    """
    if scratch and latency is not None:
        raise InvalidInput("expected latency= or scratch=, found both: one of them says what a query takes")
    if scratch:
        server_of(where)
    if latency is not None and not isinstance(latency, LatencyModel):
        raise InvalidInput(f"latency must be a sparsevec.LatencyModel, found {type(latency).__name__}")
    check_seed(seed)
    check_listener(on_progress)
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 200:
        raise InvalidInput(f"sample must be at least 200 rows, found {sample!r:.80}")
    with opened(where, credentials) as adapter:
        info, began = adapter.info(), time.perf_counter()
        dense = dense_source(info, dense_field)
        loaded = Folder(model).load() if model is not None else None
        drawn_rows = drawn(adapter, dense, sample, encoder=loaded, seed=seed)
        check_order(info, dense, loaded, drawn_rows)
        reading = time.perf_counter() - began
        place = place_of(adapter)
    rows, asking = _split(drawn_rows.rows, queries, drawn_rows.width, seed)
    encoder = loaded or SparseEncoder(drawn_rows.width, output_dim, seed).fit(
        rows, queries, budget=budget or USUAL, on_step=on_progress
    )
    began = time.perf_counter()
    codes = encoder.encode_document(rows)
    encoding = (time.perf_counter() - began) / len(rows) * drawn_rows.looked
    asked = encoder.encode_query(asking)
    spent, frequency = cost(asked, codes), np.sort(document_frequency(codes))[::-1]
    found = probed(where, codes, credentials) if scratch else None
    latency = latency or found
    taken = None if latency is None else _scaled(features(asked, codes, _HITS), drawn_rows.looked / len(codes))
    fourth = np.arange(0, len(rows), _SMALLER)
    return Preview(
        place=place,
        backend=info.backend,
        dense=source_name(dense),
        documents=drawn_rows.looked,
        whole=drawn_rows.whole,
        sample=len(rows),
        asked=len(asking),
        fitted=loaded is None,
        flops=spent.flops,
        postings=spent.flops * drawn_rows.looked,
        touched=touched(asked, codes),
        clauses=spent.query_active_dims,
        most_clauses=int(asked.row_nnz.max()),
        clause_limit=info.capabilities.query_weights,
        longest=tuple((frequency[:_LONGEST] / len(codes)).tolist()),
        bytes=spent.bytes * drawn_rows.looked,
        read_and_encode_seconds=reading + encoding,
        quality=evaluate(rows, asking, codes, asked, similarity=encoder.similarity),
        quality_of_a_fourth=evaluate(rows[fourth], asking, codes[fourth], asked, similarity=encoder.similarity),
        milliseconds=None if latency is None or taken is None else float(latency.predict(taken).mean()),
        probed=found,
        slow=None if latency is None or taken is None else latency.warning(taken, drawn_rows.looked),
    )


def _scaled(counted: Float64s, times: float) -> Float64s:
    """Features of queries over so many times the documents: postings and touched grow, lists do not."""
    touched = times * counted[:, 2]
    return np.column_stack([counted[:, 0], times * counted[:, 1], touched, np.minimum(_HITS, touched)])


def _split(rows: Float32s, queries: Any | None, width: int, seed: int) -> tuple[Float32s, Float32s]:
    """Documents and queries, one of each at least."""
    if queries is not None:
        asking = np.asarray(dense_rows(queries, width, "queries"), np.float32)
        if not len(asking):
            raise InvalidInput("expected at least one query, found none; without queries= documents ask")
        return rows, asking
    most = max(20, int(_ASKING * len(rows)))
    if len(rows) <= most:
        raise InvalidInput(
            f"expected more than {most} documents with a dense row, of which {most} ask, found {len(rows)}; give real "
            "queries as queries="
        )
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[most:]], rows[order[:most]]
