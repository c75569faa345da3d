"""What people do wrong, and what they are told: what was found, what was expected, what to do. Never a bare error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from qdrant_client import QdrantClient

import sparsevec as sv
from sparsevec.contract.filters import EngineFilter
from sparsevec.contract.operations import InThreads
from sparsevec.errors import (
    AdapterClosed,
    AdapterNotFound,
    CollectionError,
    InvalidInput,
    InvalidVectors,
    SparsevecError,
    StorageFailed,
    WrongSpace,
)

V: Any = sv.SparseVectors
verify: Any = sv.verify
ingest: Any = sv.ingest
cost: Any = sv.cost
latency: Any = sv.latency_model
find: Any = sv.find_frontier
NO_PATH = "the path of a file or folder, found None"
DENSE = np.array([[0, 1.5, 0, 2], [0, 0, 1, 0], [3, 0, 0, 1]], np.float32)
BATCH: Any = V.from_dense(DENSE)
OTHER = V.from_dense(np.eye(5))


@pytest.fixture
def a() -> Iterator[Any]:
    """Three documents of dimension 4, of the space `ours`."""
    with sv.connect("reference:") as adapter:
        adapter.create(4)
        adapter.upsert([0, 1, 2], BATCH.with_fingerprint("ours"), [{"n": 1}, {"n": 2}, {}])
        yield adapter


Case = tuple[str, Callable[[Any], object], type[SparsevecError], str]

VECTORS: list[Case] = [
    (
        "a dimension that is a float",
        lambda _: V([0], [], [], 4.0),
        InvalidVectors,
        "dimension must be an int in .*found 4.0",
    ),
    ("no dimension", lambda _: V([0], [], [], None), InvalidVectors, "dimension must be an int .*found None"),
    ("a dimension of rows that is text", lambda _: V.from_rows([], dimension="4"), InvalidVectors, "found '4'"),
    ("indices that are text", lambda _: V([0, 1], ["a"], [1.0], 4), InvalidVectors, "indices must be integers"),
    ("None for arrays", lambda _: V(None, None, None, 4), InvalidVectors, "must have one dimension"),
    ("ragged lists", lambda _: V([0, 1], [[1], [2, 3]], [1.0], 4), InvalidVectors, "cannot be read as an array"),
    (
        "values in two dimensions",
        lambda _: V([0, 1], [1], [[1.0]], 4),
        InvalidVectors,
        "values must have one dimension",
    ),
    (
        "a tensor with gradients",
        lambda _: V([0, 1], [1], torch.ones(1, requires_grad=True), 4),
        InvalidVectors,
        "from_torch",
    ),
    (
        "a fingerprint that is a number",
        lambda _: BATCH.with_fingerprint(7),
        InvalidVectors,
        "must be a printable string or None, found 7",
    ),
    (
        "one dense row",
        lambda _: V.from_dense(DENSE[0]),
        InvalidVectors,
        r"shape \(n, dimension\), found shape \(4,\); .*x\[None, :\]",
    ),
    ("a scipy matrix as dense", lambda _: V.from_dense(sp.csr_array(DENSE)), InvalidVectors, "from_scipy takes it"),
    ("text as dense", lambda _: V.from_dense("abc"), InvalidVectors, r"found shape \(\)"),
    ("None as dense", lambda _: V.from_dense(None), InvalidVectors, r"found shape \(\)"),
    ("a generator as dense", lambda _: V.from_dense(iter(DENSE)), InvalidVectors, r"found shape \(\)"),
    ("truth values as dense", lambda _: V.from_dense(DENSE > 0), InvalidVectors, r"real numbers, found bool; .astype"),
    (
        "NaN in dense",
        lambda _: V.from_dense(DENSE * np.nan),
        InvalidVectors,
        "row 0: values must be finite float32, found nan",
    ),
    (
        "an array as scipy",
        lambda _: V.from_scipy(DENSE),
        InvalidVectors,
        "scipy sparse array, found ndarray; from_dense",
    ),
    ("an array as a tensor", lambda _: V.from_torch(DENSE), InvalidVectors, "torch tensor, found ndarray; from_dense"),
    ("a list of arrays as tensors", lambda _: V.from_torch(list(DENSE)), InvalidVectors, "torch tensor, found ndarray"),
    (
        "a complex tensor",
        lambda _: V.from_torch(torch.ones(1, 2) * 1j),
        InvalidVectors,
        "real numbers, found torch.complex64",
    ),
    (
        "one mapping for rows",
        lambda _: V.from_rows({1: 1.0}, dimension=4),
        InvalidVectors,
        "list of rows, found dict; one row is a list",
    ),
    ("a number for rows", lambda _: V.from_rows(5, dimension=4), InvalidVectors, "list of rows, found int"),
    (
        "a number for a row",
        lambda _: V.from_rows([5], dimension=4),
        InvalidVectors,
        r"row 0 is neither \(index, weight\) pairs",
    ),
    ("a dense row for a row", lambda _: V.from_rows([[0.5, 0.0]], dimension=4), InvalidVectors, "row 0 is neither"),
    (
        "tokens for indices",
        lambda _: V.from_rows([{"cat": 1.0}], dimension=4),
        InvalidVectors,
        "found 'cat'; a token stands for",
    ),
    (
        "a weight that is None",
        lambda _: V.from_rows([{1: None}], dimension=4),
        InvalidVectors,
        "real number, found None",
    ),
    (
        "more indices than values",
        lambda _: V.from_rows([SimpleNamespace(indices=[1], values=[])], dimension=4),
        InvalidVectors,
        "row 0 has 1 indices and 0 values",
    ),
    ("nothing to concat", lambda _: V.concat([]), InvalidVectors, "at least one batch"),
    (
        "a row to concat",
        lambda _: V.concat([BATCH, BATCH[0]]),
        InvalidVectors,
        "expected batches to be SparseVectors, found SparseVector",
    ),
    (
        "two dimensions to concat",
        lambda _: V.concat([BATCH, OTHER]),
        InvalidVectors,
        r"one dimension, found dimensions \[4, 5\]",
    ),
    (
        "a huge array",
        lambda _: np.asarray(V.from_rows([{}], dimension=2**32)),
        InvalidVectors,
        "takes 16 GiB; to_scipy",
    ),
    (
        "a folder that is not there",
        lambda _: V.load("/nowhere"),
        InvalidVectors,
        "/nowhere is not a whole folder .*it is not there",
    ),
    ("a file to save over", lambda _: BATCH.save("/dev/null"), InvalidInput, "/dev/null is a file; choose"),
    (
        "a place below a file",
        lambda _: BATCH.save("/dev/null/x"),
        StorageFailed,
        "could not be written: Not a directory",
    ),
]

WRITING: list[Case] = [
    ("dense rows", lambda a: a.upsert([0, 1, 2], DENSE), InvalidVectors, "SparseVectors, found ndarray"),
    (
        "a scipy matrix",
        lambda a: a.upsert([0, 1, 2], BATCH.to_scipy()),
        InvalidVectors,
        "SparseVectors, found csr_array.*from_scipy",
    ),
    ("mappings", lambda a: a.upsert([0], [{1: 1.0}]), InvalidVectors, "SparseVectors, found list.*from_rows"),
    ("one row", lambda a: a.upsert([0], BATCH[0]), InvalidVectors, "SparseVectors, found SparseVector"),
    ("one id", lambda a: a.upsert(0, BATCH[:1]), InvalidInput, "sequence of ids, found 0"),
    ("one id that is text", lambda a: a.upsert("abc", BATCH), InvalidInput, "sequence of ids, found 'abc'"),
    ("fewer ids", lambda a: a.upsert([0], BATCH), InvalidInput, "as many ids as vectors, found 1 ids and 3 vectors"),
    ("the same id twice", lambda a: a.upsert([0, 0, 1], BATCH), InvalidInput, "id 0 stands twice"),
    ("an id that is a float", lambda a: a.upsert([0.5], BATCH[:1]), InvalidInput, "id 0 must be an int .*found 0.5"),
    ("an id below zero", lambda a: a.upsert([-1], BATCH[:1]), InvalidInput, r"\[0, 2\*\*64\).*found -1"),
    ("an empty id", lambda a: a.upsert([""], BATCH[:1]), InvalidInput, "non-empty string, found ''"),
    ("one payload, no list", lambda a: a.upsert([0, 1, 2], BATCH, 5), InvalidInput, "a sequence of payloads, found 5"),
    ("one version, no list", lambda a: a.upsert([0], BATCH[:1], versions=5), InvalidInput, "versions as a list"),
    ("routing that is text", lambda a: a.upsert([0], BATCH[:1], routing="x"), InvalidInput, "routing as a list"),
    ("fewer payloads", lambda a: a.upsert([0, 1, 2], BATCH, [{}]), InvalidInput, "as many payloads as ids"),
    (
        "a payload that is text",
        lambda a: a.upsert([0], BATCH[:1], ["x"]),
        InvalidInput,
        "payload of id 0: expected JSON .*found str",
    ),
    (
        "a payload with a set",
        lambda a: a.upsert([0], BATCH[:1], [{"t": {1}}]),
        InvalidInput,
        "t: expected a JSON value, found set",
    ),
    (
        "a payload with NaN",
        lambda a: a.upsert([0], BATCH[:1], [{"t": float("nan")}]),
        InvalidInput,
        "nan is not a JSON number",
    ),
    (
        "another dimension",
        lambda a: a.upsert([0, 1, 2, 3, 4], OTHER),
        InvalidVectors,
        "dimension 4, the vectors have 5",
    ),
    (
        "vectors of another space",
        lambda a: a.upsert([0, 1, 2], BATCH.with_fingerprint("theirs")),
        WrongSpace,
        "ours, these are of theirs",
    ),
    (
        "an unknown word for missing",
        lambda a: a.upsert([0], BATCH[:1], missing="make"),
        InvalidInput,
        "'fail', 'skip' or 'create', found 'make'",
    ),
    ("versions where there are none", lambda a: a.upsert([0], BATCH[:1], versions=["1"]), InvalidInput, "no versions"),
    ("routing where there is none", lambda a: a.upsert([0], BATCH[:1], routing=["x"]), InvalidInput, "no routing"),
    ("a second create", lambda a: a.create(4), CollectionError, "collection already; drop"),
    (
        "a dimension of zero",
        lambda _: sv.connect("reference:").create(0),
        InvalidVectors,
        r"dimension must be .*found 0",
    ),
    ("delete without a list", lambda a: a.delete(0), InvalidInput, "sequence of ids, found 0"),
    ("fetch of text", lambda a: a.fetch("abc"), InvalidInput, "sequence of ids, found 'abc'"),
    ("fetch of None", lambda a: a.fetch([None]), InvalidInput, "id 0 must be an int"),
    (
        "a scan from anywhere",
        lambda a: next(a.scan(after="zz")),
        InvalidInput,
        "`after` of an earlier page, found 'zz'",
    ),
    ("a scan in pages of nothing", lambda a: next(a.scan(size=0)), InvalidInput, "size must be an int of at least 1"),
    ("a closed adapter", lambda a: a.close() or a.count(), AdapterClosed, "was closed; connect again"),
]

SEARCHING: list[Case] = [
    ("a dense query", lambda a: a.search(DENSE), InvalidInput, "SparseVectors, found ndarray; encoder"),
    ("a mapping", lambda a: a.search({1: 1.0}), InvalidInput, "SparseVectors, found dict.*from_rows"),
    ("a list of rows", lambda a: a.search([BATCH[0]]), InvalidInput, "SparseVectors, found list"),
    ("text", lambda a: a.search("cat"), InvalidInput, "SparseVectors, found str"),
    ("None", lambda a: a.search(None), InvalidInput, "SparseVectors, found NoneType"),
    ("a tensor", lambda a: a.search(torch.ones(1, 4)), InvalidInput, "SparseVectors, found Tensor"),
    ("another dimension", lambda a: a.search(OTHER), InvalidVectors, "dimension 4, the vectors have 5"),
    ("a row of another dimension", lambda a: a.search(OTHER[0]), InvalidVectors, "dimension 4, the vectors have 5"),
    (
        "a row of another space",
        lambda a: a.search(BATCH.with_fingerprint("theirs")[0]),
        WrongSpace,
        "ours, these are of theirs",
    ),
    (
        "a matrix with an explicit zero",
        lambda a: a.search(sp.csr_array(([0.0], [1], [0, 1]), shape=(1, 4))),
        InvalidVectors,
        "must not be zero",
    ),
    ("all of at most none", lambda a: a.matching({}, 0), InvalidInput, "most must be an int of at least 1, found 0"),
    (
        "no candidates",
        lambda a: a.search(BATCH, 1, rescore=BATCH, candidates=0),
        InvalidInput,
        "candidates must be an int of at least 1, found 0",
    ),
    ("k of zero", lambda a: a.search(BATCH, 0), InvalidInput, "k must be an int of at least 1, found 0"),
    (
        "k beyond 64 bits",
        lambda a: a.search(BATCH, 2**63),
        InvalidInput,
        "k must be below 2.*found 9223372036854775808",
    ),
    ("k that is a float", lambda a: a.search(BATCH, 10.0), InvalidInput, "k must be .*found 10.0"),
    ("k that is true", lambda a: a.search(BATCH, True), InvalidInput, "k must be .*found True"),
    ("k that is text", lambda a: a.search(BATCH, "10"), InvalidInput, "k must be .*found '10'"),
    (
        "no collection yet",
        lambda _: sv.connect("reference:").search(BATCH),
        CollectionError,
        r"no collection yet; create\(dimension\)",
    ),
    (
        "a filter that is a list",
        lambda a: a.search(BATCH, where=[{"n": 1}]),
        InvalidInput,
        r"must be a mapping such as .*found \[\{'n'",
    ),
    (
        "a filter that is text",
        lambda a: a.search(BATCH, where="n = 1"),
        InvalidInput,
        "must be a mapping such as .*found 'n = 1'",
    ),
    ("a field that is a number", lambda a: a.search(BATCH, where={1: 2}), InvalidInput, "must be a field's name"),
    (
        "an unknown condition",
        lambda a: a.search(BATCH, where={"n": {"above": 1}}),
        InvalidInput,
        "made of .*'gte'.*found .*above",
    ),
    (
        "an unknown operator",
        lambda a: a.search(BATCH, where={"$or": []}),
        InvalidInput,
        r"\$all, \$any and \$not; found '\$or'",
    ),
    (
        "a value that is None",
        lambda a: a.search(BATCH, where={"n": None}),
        InvalidInput,
        "must be a scalar .*found None",
    ),
    ("a value that is no unicode", lambda a: a.search(BATCH, where={"n": "\ud800"}), InvalidInput, "valid unicode"),
    ("a field that is no unicode", lambda a: a.search(BATCH, where={"\ud800": 1}), InvalidInput, "a field's name"),
    (
        "a value beyond the floats",
        lambda a: a.search(BATCH, where={"n": {"not": [1, 10**400]}}),
        InvalidInput,
        "a number that a float can hold",
    ),
    (
        "a range beyond the floats",
        lambda a: a.search(BATCH, where={"n": {"lt": 10**400}}),
        InvalidInput,
        "must give numbers",
    ),
    ("any of nothing", lambda a: a.search(BATCH, where={"n": []}), InvalidInput, r"must be a scalar .*found \[\]"),
    (
        "a range of words",
        lambda a: a.search(BATCH, where={"n": {"gt": "x"}}),
        InvalidInput,
        "must give numbers, or dates",
    ),
    (
        "exists with a word",
        lambda a: a.search(BATCH, where={"n": {"exists": "yes"}}),
        InvalidInput,
        "must be True or False",
    ),
    (
        "an engine's own filter",
        lambda a: a.search(BATCH, where=EngineFilter("qdrant", {})),
        InvalidInput,
        "a filter of qdrant",
    ),
]

AROUND: list[Case] = [
    (
        "verify an array",
        lambda a: verify(a, DENSE, DENSE),
        InvalidVectors,
        "documents as SparseVectors, found ndarray",
    ),
    (
        "verify with array queries",
        lambda a: verify(a, BATCH, DENSE),
        InvalidInput,
        "queries as SparseVectors, found ndarray",
    ),
    (
        "verify a filter without payloads",
        lambda a: verify(a, BATCH, BATCH, where={"n": 1}),
        InvalidInput,
        "payloads",
    ),
    ("verify another dimension", lambda a: verify(a, BATCH, OTHER), InvalidVectors, "4.*5"),
    ("connect to None", lambda _: sv.connect(None), InvalidInput, "expected a url such as .*found None"),
    ("connect to nothing", lambda _: sv.connect(""), InvalidInput, "expected a url such as"),
    ("connect to a number", lambda _: sv.connect(9200), InvalidInput, "expected a url such as .*found 9200"),
    ("connect to a path", lambda _: sv.connect(Path("x.db")), InvalidInput, "expected a url such as .*x.db"),
    ("connect to a class", lambda _: sv.connect(dict), InvalidInput, "expected a url such as .*found <class 'dict'>"),
    (
        "connect over http",
        lambda _: sv.connect("http://localhost:9200/x"),
        AdapterNotFound,
        "did you mean elasticsearch://",
    ),
    ("connect to es", lambda _: sv.connect("es://localhost/x"), AdapterNotFound, "did you mean elasticsearch://"),
    ("a slip of the pen", lambda _: sv.connect("qdrnt://localhost/x"), AdapterNotFound, "did you mean qdrant://"),
    (
        "a host and port alone",
        lambda _: sv.connect("localhost:9200"),
        AdapterNotFound,
        "no adapter answers to 'localhost'",
    ),
    ("a password in the url", lambda _: sv.connect("opensearch://me:pw@h/x"), InvalidInput, "as api_key= or"),
    ("a reference with a host", lambda _: sv.connect("reference://host/x"), InvalidInput, "expected `reference:`"),
    (
        "a reference with credentials",
        lambda _: sv.connect("reference:", api_key="x"),
        InvalidInput,
        "without host, options and credentials",
    ),
    (
        "a reference in no folder",
        lambda _: sv.connect("reference:/nowhere/x.db"),
        CollectionError,
        "/nowhere/x.db does not exist",
    ),
    ("ingest of an array", lambda a: ingest(a, [0, 1, 2], DENSE), InvalidVectors, "SparseVectors"),
    ("ingest of one id", lambda a: ingest(a, 0, BATCH[:1]), InvalidInput, "ids"),
    ("ingest of text as ids", lambda a: ingest(a, "ab", BATCH[:2]), InvalidInput, "sequence of ids, found 'ab'"),
    ("ingest without ids", lambda a: ingest(a, None, BATCH[:2]), InvalidInput, "sequence of ids, found None"),
    ("ingest of bytes as ids", lambda a: ingest(a, b"ab", BATCH[:2]), InvalidInput, "sequence of ids, found b'ab'"),
    ("removal of text", lambda a: sv.remove(a, "ab"), InvalidInput, "sequence of ids, found 'ab'"),
    ("ids that are an array of no dimension", lambda a: a.delete(np.array(3)), InvalidInput, "sequence of ids, found"),
    ("the cost of dense queries", lambda _: cost(DENSE, BATCH), InvalidVectors, "queries as SparseVectors, found nda"),
    ("the cost of dense documents", lambda _: cost(BATCH, DENSE), InvalidVectors, "documents as SparseVectors, found"),
    ("latency over dense rows", lambda a: latency(a, DENSE), InvalidVectors, "documents as SparseVectors, found nda"),
    ("latency in no rounds", lambda a: latency(a, BATCH, rounds=0), InvalidInput, "rounds must be an int of at least"),
    ("letters of nowhere", lambda _: list(sv.read_dead_letters(None)), InvalidInput, NO_PATH),  # type: ignore[arg-type]
    ("a latency model of nowhere", lambda _: sv.LatencyModel.load(None), InvalidInput, NO_PATH),  # type: ignore[arg-type]
    ("vectors of nowhere", lambda _: V.load(None), InvalidInput, NO_PATH),
    ("vectors of a number", lambda _: V.load(0), InvalidInput, "path of a file or folder, found 0"),
    ("vectors kept nowhere", lambda _: BATCH.save(None), InvalidInput, NO_PATH),
    ("vectors kept in bytes", lambda _: BATCH.save(b"x"), InvalidInput, "path of a file or folder, found b'x'"),
    ("vectors kept under no name", lambda _: BATCH.save(""), InvalidInput, "path of a file or folder, found ''"),
    ("vectors kept behind a NUL", lambda _: BATCH.save("a\0b"), InvalidInput, "path of a file or folder, found 'a"),
    ("an encoder of nowhere", lambda _: sv.SparseEncoder.load(None), InvalidInput, NO_PATH),  # type: ignore[arg-type]
    ("serving with no model", lambda _: sv.Serving("reference:", model=None), InvalidInput, f"model must be {NO_PATH}"),  # type: ignore[arg-type]
    ("ingest with an unknown policy", lambda a: ingest(a, [0], BATCH[:1], empty="drop"), InvalidInput, "'drop'"),
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [pytest.param(*case[1:], id=case[0]) for case in [*VECTORS, *WRITING, *SEARCHING, *AROUND]],
)
def test_a_wrong_use_is_told_what_was_found_and_what_to_do(
    a: Any, use: Callable[[Any], object], error: type[SparsevecError], message: str
) -> None:
    require_told(use, a, error, message)


def require_told(use: Callable[[Any], object], of: Any, error: type[SparsevecError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        use(of)
    assert caught.type is error


# ---- of an encoder


@pytest.fixture(scope="module")
def encoder() -> sv.SparseEncoder:
    return sv.SparseEncoder(4, 16).fit(DENSE, budget=sv.Budget(nnz=2))


OF_AN_ENCODER: list[Case] = [
    ("kept nowhere", lambda e: e.save(None), InvalidInput, NO_PATH),
    ("judged by no codes", lambda e: e.judge(DENSE, None), InvalidVectors, "codes as SparseVectors, found NoneType"),
    ("judged by dense rows", lambda e: e.judge(DENSE, DENSE), InvalidVectors, "codes as SparseVectors, found ndarray"),
    ("added under one id", lambda e: over(e).add("ab", DENSE[:2]), InvalidInput, "sequence of ids, found 'ab'"),
    ("deleted by one id", lambda e: over(e).delete("ab"), InvalidInput, "sequence of ids, found 'ab'"),
]


def over(encoder: sv.SparseEncoder) -> Any:
    """A retriever of an empty collection."""
    adapter = sv.connect("reference:")
    adapter.create(16, fingerprint=encoder.fingerprint)
    return sv.Retriever(encoder, adapter)


@pytest.mark.parametrize(("use", "error", "message"), [pytest.param(*case[1:], id=case[0]) for case in OF_AN_ENCODER])
def test_a_wrong_use_of_an_encoder_is_told_the_same(
    encoder: Any, use: Callable[[Any], object], error: type[SparsevecError], message: str
) -> None:
    require_told(use, encoder, error, message)


@pytest.mark.parametrize(
    ("dense", "codes", "message"),
    [
        (DENSE, None, "documents as SparseVectors, found NoneType"),
        (DENSE, DENSE, "documents as SparseVectors, found ndarray"),
        (None, BATCH, r"must be an array \(n, 4\), found NoneType"),
    ],
)
def test_refined_codes_that_are_none_are_not_kept(
    encoder: sv.SparseEncoder, tmp_path: Path, dense: Any, codes: Any, message: str
) -> None:
    encoder.save(tmp_path / "model")
    with pytest.raises(InvalidVectors, match=message):
        sv.keep_refined(tmp_path / "model", dense, codes)


# ---- the search of configurations


ROWS = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": {"flops": 0.5}}, r"limits must be a sparsevec.CostLimits, found dict .*CostLimits\(\*\*your_dict"),
        ({"limits": sv.Budget(flops=0.5)}, r"limits must be a sparsevec.CostLimits, found Budget .*CostLimits\(flops"),
        ({"limits": None}, "limits must be a sparsevec.CostLimits, found NoneType"),
        ({"latency": "qdrant"}, "latency must be a sparsevec.LatencyModel, found str"),
        ({"goal": "speed"}, r"goal must be one of \('answers', 'candidates'\), found 'speed'"),
        ({"shapes": [(4096, 32)]}, r"expected a shape as Shape\(.*found \(4096, 32\)"),
        ({"widths": 8}, "expected a sequence of widths, found 8"),
        ({"widths": [60]}, r"must be 8 to \d+ bytes, found \[60\]"),
        ({"goal": "candidates", "widths": [8]}, "residual codes re-rank candidates and find no others"),
        ({"refine": "x"}, "refine must be True or False, found 'x'"),
        ({"folder": 3}, "folder must be the path of a file or folder, found 3"),
    ],
)
def test_a_search_of_configurations_is_refused_at_the_door(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        find(ROWS, **{"limits": sv.CostLimits(flops=0.5), "seconds": 1, **options})


def test_residual_codes_that_narrow_rows_cannot_have_do_not_compete_unless_they_were_asked_for() -> None:
    with pytest.raises(InvalidInput, match="the fewest weights that compete"):  # what is looked at behind the widths
        find(ROWS, limits=sv.CostLimits(bytes=1), seconds=1)


# ---- what is no adapter, or one of the other kind


TAKING_AN_ADAPTER: dict[str, Callable[[Any, Any], object]] = {
    "ingest": lambda adapter, _: ingest(adapter, [0, 1, 2], BATCH),
    "remove": lambda adapter, _: sv.remove(adapter, [0]),
    "verify": lambda adapter, _: verify(adapter, BATCH, BATCH),
    "latency_model": lambda adapter, _: sv.latency_model(adapter, BATCH),
    "Retriever": lambda adapter, encoder: sv.Retriever(encoder, adapter),
    "check": lambda adapter, _: sv.check(adapter),
}


@pytest.mark.parametrize("use", TAKING_AN_ADAPTER.values(), ids=TAKING_AN_ADAPTER)
def test_what_takes_an_adapter_for_threads_says_so_of_one_for_asyncio_and_of_a_client(
    a: Any, encoder: Any, use: Callable[[Any, Any], object]
) -> None:
    with pytest.raises(InvalidInput, match="for threads, found InThreads, which is one for asyncio"):
        use(InThreads(a), encoder)
    client = SimpleNamespace(info=list, search=list, upsert=list, delete=list)
    with pytest.raises(InvalidInput, match=r"expected an adapter, found SimpleNamespace; .*from a url or a client"):
        use(client, encoder)


def test_an_asynchronous_retriever_refuses_an_adapter_for_threads(a: Any, encoder: Any) -> None:
    with pytest.raises(InvalidInput, match="for asyncio, found Reference, which is one for threads"):
        sv.AsyncRetriever(encoder, a)


@pytest.mark.parametrize("options", [{}, {"index": "x"}, {"collection": "x", "vector": "y"}])
def test_options_that_do_not_go_with_a_client_are_named_with_those_that_do(options: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="qdrant_client expected collection=, vector_name="):
        sv.connect(QdrantClient(":memory:"), **options)


@pytest.mark.parametrize("url", ["elasticsearch://127.0.0.1:1/any", "qdrant://127.0.0.1:1/any"])
@pytest.mark.parametrize("pattern", [5, None, b"products", ["products"], "", "\ud800"])
def test_a_pattern_that_is_no_text_is_refused_before_a_server_is_asked(url: str, pattern: Any) -> None:
    adapter: Any = sv.connect(url)
    with pytest.raises(InvalidInput, match=r"a pattern such as 'products-\*'"):
        adapter.names(pattern)
