"""Exact sparse scores from posting lists: `plain` says what a score is, `blocks` gives the same bits, compiled."""

from sparsevec.postings.blocks import BlockLists
from sparsevec.postings.plain import Float64s, Mask, PostingLists, shared

__all__ = ["BlockLists", "Float64s", "Mask", "PostingLists", "shared"]
