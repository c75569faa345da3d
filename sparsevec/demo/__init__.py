"""`sparsevec demo`: its corpus, its run and its page. Only the command line and examples come in."""

from sparsevec.demo.corpus import Corpus, from_folder, shipped
from sparsevec.demo.run import Outcome, run

__all__ = ["Corpus", "Outcome", "from_folder", "run", "shipped"]
