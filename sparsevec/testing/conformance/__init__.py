"""`Conformance`: the clauses C1..C21 of `sparsevec.contract.adapter`, one or more tests each, for any adapter.

    class TestMine(Conformance):
        @pytest.fixture
        def adapter(self) -> Iterator[Adapter]:
            yield connect("qdrant://localhost:6333/conformance")
            connect("qdrant://localhost:6333/conformance").drop()  # the test may have closed the first one

`adapter` is fresh for every test, and its collection is not there yet. An asynchronous adapter is held to the same
clauses through `sparsevec.testing.blocking.Blocking`. Override where you can, and more clauses are tried:

- `reopen(adapter)`, when a backend outlives its adapter; `another(adapter)`, a second adapter of the same collection
- the fixtures `others` and `routed`, which make a collection as an application would (`suite.Others`)

What a backend cannot hold may come back as failed, with a reason; what it holds must be exact, and nothing may get lost
in silence. `verify` is the judge of scores and of what was left out.
"""

from __future__ import annotations

from sparsevec.testing.conformance.answering import Answering
from sparsevec.testing.conformance.coding import Coding
from sparsevec.testing.conformance.creating import Creating
from sparsevec.testing.conformance.filtering import Filtering
from sparsevec.testing.conformance.ids import Ids
from sparsevec.testing.conformance.looking_again import LookingAgain
from sparsevec.testing.conformance.manners import Manners
from sparsevec.testing.conformance.scanning import Scanning
from sparsevec.testing.conformance.searching import Searching
from sparsevec.testing.conformance.sharing import Sharing
from sparsevec.testing.conformance.spaces import Spaces
from sparsevec.testing.conformance.suite import Others
from sparsevec.testing.conformance.writing import Writing

__all__ = ["Conformance", "Others"]


class Conformance(
    Creating, Writing, Searching, Coding, LookingAgain, Ids, Filtering, Manners, Scanning, Sharing, Spaces, Answering
):
    """Inherit, give the fixture `adapter`, and every test is yours."""
