"""`sparsevec demo`: its corpus, its run and its page. Only the command line and examples come in."""

from sparsevec.demo.corpus import Corpus, from_folder, shipped

__all__ = ["Corpus", "from_folder", "shipped"]
