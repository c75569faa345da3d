"""`sparsevec demo`: its corpus, its run and its page. Only the command line and examples come in."""

from sparsevec.demo.run import Corpus, Outcome, from_folder, run, shipped

__all__ = ["Corpus", "Outcome", "from_folder", "run", "shipped"]
