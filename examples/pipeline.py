"""An ingestion job: documents stream in, sparse vectors stream out, and every one of them is accounted for.

    python examples/pipeline.py [URL]        # reference:pipeline.sqlite when no url is given

The documents are the docstrings of Python's standard library, so there is nothing to download. Stop it with Ctrl-C or
kill -9 whenever you like and start it again: it goes on after the last batch that the backend has acknowledged. Start
it once more when it is done: nothing is written, and the figures are the same.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

import sparsevec as sv

DIMENSION = 2**18


def documents() -> Iterator[tuple[str, str]]:
    """(name, docstring) of every public module, class and function, one file in memory at a time."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("[a-z]*.py")):
        tree = ast.parse(path.read_bytes())
        yield path.stem, ast.get_docstring(tree) or ""
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                yield f"{path.stem}.{node.name}", ast.get_docstring(node) or ""


def encode(texts: Iterable[str]) -> sv.SparseVectors:
    """Unit vectors of words. A real pipeline has `encoder.encode_document` here."""
    return sv.SparseVectors.from_rows(map(weights, texts), dimension=DIMENSION)


def weights(text: str) -> dict[int, float]:
    counts = Counter(crc32(word.encode()) % DIMENSION for word in re.findall("[a-z]{4,}", text.lower()))
    length = math.sqrt(sum(n * n for n in counts.values()))
    return {index: n / length for index, n in counts.items()}


def chunks(texts: Iterator[str], n: int = 500) -> Iterator[sv.SparseVectors]:
    """The vectors, n at a time."""
    while chunk := list(itertools.islice(texts, n)):
        yield encode(chunk)


def show(progress: sv.IngestProgress) -> None:
    print(f"\r{progress.documents:,} documents, {progress.rate:,.0f} a second", end="", flush=True)


def main(url: str = "reference:pipeline.sqlite") -> None:
    adapter = sv.connect(url)
    if adapter.info().dimension is None:
        adapter.create(DIMENSION)

    names, texts, begins = itertools.tee(documents(), 3)  # read side by side: no more than a chunk is held
    report = sv.ingest(
        adapter,
        ids=(name for name, _ in names),
        vectors=chunks(text for _, text in texts),
        payloads=({"begins": text[:60]} for _, text in begins),
        journal="pipeline.journal",
        on_progress=show,
    )
    print(f"\n{report}\n")

    # What was refused is kept, with the reason: here what has no docstring. Mend it, and ingest it again.
    letters = list(sv.read_dead_letters("pipeline.failed.jsonl"))
    names_only = encode(letter.id for letter in letters)
    print(sv.ingest(adapter, [letter.id for letter in letters], names_only, empty="skip", journal="mended.journal"))

    (hits,) = adapter.search(encode(["parse command line arguments"]), k=3, with_payloads=True)
    for id_, score, payload in hits:
        print(f"{score:6.2f}  {id_}: {(payload or {}).get('begins')!r}")
    adapter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
