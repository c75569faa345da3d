"""Sparse vectors for the search cluster you already run, learned to a budget and proved exact.

    import sparsevec as sv

The import is light: what stands in `__all__` is loaded when it is first used, and neither torch nor a client library
before something needs one. What is public is listed here and nowhere else: the names of `__all__`, and the modules of
`PUBLIC_MODULES` with the names of their `__all__`. Anything else may change in any release.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in _HOMES, for type checkers and editors
    from sparsevec import errors as errors
    from sparsevec.answers.explain import Explanation as Explanation
    from sparsevec.answers.explain import explain as explain
    from sparsevec.answers.fusion import reciprocal_rank_fusion as reciprocal_rank_fusion
    from sparsevec.answers.fusion import weighted_sum as weighted_sum
    from sparsevec.answers.retriever import AsyncRetriever as AsyncRetriever
    from sparsevec.answers.retriever import Retriever as Retriever
    from sparsevec.contract.adapter import Adapter as Adapter
    from sparsevec.contract.adapter import AsyncAdapter as AsyncAdapter
    from sparsevec.contract.adapter import DenseField as DenseField
    from sparsevec.contract.adapter import Documents as Documents
    from sparsevec.contract.adapter import Finding as Finding
    from sparsevec.contract.adapter import Hit as Hit
    from sparsevec.contract.adapter import Hits as Hits
    from sparsevec.contract.adapter import Info as Info
    from sparsevec.contract.adapter import Page as Page
    from sparsevec.contract.adapter import Written as Written
    from sparsevec.contract.capabilities import Capabilities as Capabilities
    from sparsevec.contract.connect import aconnect as aconnect
    from sparsevec.contract.connect import connect as connect
    from sparsevec.contract.filters import EngineFilter as EngineFilter
    from sparsevec.encoder import Budget as Budget
    from sparsevec.encoder import SparseEncoder as SparseEncoder
    from sparsevec.exact.local import LocalEngine as LocalEngine
    from sparsevec.exact.reference import Reference as Reference
    from sparsevec.exact.verify import VerifyReport as VerifyReport
    from sparsevec.exact.verify import verify as verify
    from sparsevec.ingestion.chunks import Encoded as Encoded
    from sparsevec.ingestion.dead_letters import read_dead_letters as read_dead_letters
    from sparsevec.ingestion.ingest import IngestProgress as IngestProgress
    from sparsevec.ingestion.ingest import IngestReport as IngestReport
    from sparsevec.ingestion.ingest import Restartable as Restartable
    from sparsevec.ingestion.ingest import ingest as ingest
    from sparsevec.ingestion.removal import RemovalReport as RemovalReport
    from sparsevec.ingestion.removal import remove as remove
    from sparsevec.live.catching_up import catch_up as catch_up
    from sparsevec.live.catching_up import follow as follow
    from sparsevec.live.codes import keep_refined as keep_refined
    from sparsevec.live.copying import CopyReport as CopyReport
    from sparsevec.live.copying import copy_beside as copy_beside
    from sparsevec.live.copying import drop_copied as drop_copied
    from sparsevec.live.copying import switch_copy as switch_copy
    from sparsevec.live.findings import check as check
    from sparsevec.live.many import EachReport as EachReport
    from sparsevec.live.many import catch_up_each as catch_up_each
    from sparsevec.live.many import retrofit_each as retrofit_each
    from sparsevec.live.many import undo_each as undo_each
    from sparsevec.live.migrating import SwitchReport as SwitchReport
    from sparsevec.live.migrating import catch_up_both as catch_up_both
    from sparsevec.live.migrating import drop_old as drop_old
    from sparsevec.live.migrating import migrate as migrate
    from sparsevec.live.migrating import switch as switch
    from sparsevec.live.migrating import switch_back as switch_back
    from sparsevec.live.reports import CatchUpReport as CatchUpReport
    from sparsevec.live.reports import RetrofitReport as RetrofitReport
    from sparsevec.live.retrofitting import retrofit as retrofit
    from sparsevec.live.serving import AsyncServing as AsyncServing
    from sparsevec.live.serving import Served as Served
    from sparsevec.live.serving import Serving as Serving
    from sparsevec.live.undoing import UndoReport as UndoReport
    from sparsevec.live.undoing import undo_retrofit as undo_retrofit
    from sparsevec.measure.cost import Cost as Cost
    from sparsevec.measure.cost import cost as cost
    from sparsevec.measure.recall import Evaluation as Evaluation
    from sparsevec.measure.recall import evaluate as evaluate
    from sparsevec.planning.frontier import CostLimits as CostLimits
    from sparsevec.planning.frontier import Frontier as Frontier
    from sparsevec.planning.halving import find_frontier as find_frontier
    from sparsevec.planning.latency import LatencyModel as LatencyModel
    from sparsevec.planning.latency import latency_model as latency_model
    from sparsevec.planning.outlook import Preview as Preview
    from sparsevec.planning.outlook import preview as preview
    from sparsevec.progress import Progress as Progress
    from sparsevec.vectors import SparseVector as SparseVector
    from sparsevec.vectors import SparseVectors as SparseVectors

__version__ = "0.1.0"

_HOMES = {
    "answers.explain": "Explanation explain",
    "answers.fusion": "reciprocal_rank_fusion weighted_sum",
    "answers.retriever": "AsyncRetriever Retriever",
    "contract.adapter": "Adapter AsyncAdapter DenseField Documents Finding Hit Hits Info Page Written",
    "contract.capabilities": "Capabilities",
    "contract.connect": "aconnect connect",
    "contract.filters": "EngineFilter",
    "encoder": "Budget SparseEncoder",
    "errors": "errors",
    "exact.local": "LocalEngine",
    "exact.reference": "Reference",
    "exact.verify": "VerifyReport verify",
    "ingestion.chunks": "Encoded",
    "ingestion.ingest": "IngestProgress IngestReport Restartable ingest",
    "ingestion.dead_letters": "read_dead_letters",
    "ingestion.removal": "RemovalReport remove",
    "live.catching_up": "catch_up follow",
    "live.codes": "keep_refined",
    "live.copying": "CopyReport copy_beside drop_copied switch_copy",
    "live.findings": "check",
    "live.many": "EachReport catch_up_each retrofit_each undo_each",
    "live.migrating": "SwitchReport catch_up_both drop_old migrate switch switch_back",
    "live.reports": "CatchUpReport RetrofitReport",
    "live.retrofitting": "retrofit",
    "live.serving": "AsyncServing Served Serving",
    "live.undoing": "UndoReport undo_retrofit",
    "measure.cost": "Cost cost",
    "measure.recall": "Evaluation evaluate",
    "planning.frontier": "CostLimits Frontier",
    "planning.halving": "find_frontier",
    "planning.latency": "LatencyModel latency_model",
    "planning.outlook": "Preview preview",
    "progress": "Progress",
    "vectors": "SparseVector SparseVectors",
}
_HOME_OF = {name: f"sparsevec.{home}" for home, names in _HOMES.items() for name in names.split()}

PUBLIC_MODULES = (
    "sparsevec",
    "sparsevec.errors",
    "sparsevec.training",  # for a network of your own
    "sparsevec.contract.adapter",  # these eight for an adapter of your own
    "sparsevec.contract.capabilities",
    "sparsevec.contract.checks",
    "sparsevec.contract.deadlines",
    "sparsevec.contract.filters",
    "sparsevec.contract.operations",
    "sparsevec.contract.searches",
    "sparsevec.contract.urls",
    "sparsevec.files",  # vectors, ids and payloads from files
    "sparsevec.planning.stages",  # what a search costs: pipelines and transformers
    "sparsevec.planning.transformers",
    "sparsevec.integrations.embedders",  # texts in; the module of each framework beside it is public as well
    "sparsevec.demo",  # its corpus, for a first try
    "sparsevec.testing.blocking",  # an asynchronous adapter, for the suite
    "sparsevec.testing.conformance",
    "sparsevec.testing.plugin",  # fixtures, by their names
)

__all__ = [*sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sparsevec' has no attribute {name!r}")
    module = import_module(_HOME_OF[name])
    found = globals()[name] = module if name == "errors" else getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
