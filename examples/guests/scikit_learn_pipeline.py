"""scikit-learn: codes in a pipeline, their budget chosen by a grid search.

python examples/guests/scikit_learn_pipeline.py
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sparsevec.integrations.scikit_learn import SparseCodes


def main() -> tuple[int, float]:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=90)
    rows = (rng.normal(size=(4, 16))[labels] + 0.3 * rng.normal(size=(90, 16))).astype(np.float32)
    search = GridSearchCV(make_pipeline(SparseCodes(128), LogisticRegression()), {"sparsecodes__nnz": [4, 16]}, cv=2)
    search.fit(rows, labels)
    return int(search.best_params_["sparsecodes__nnz"]), float(search.best_score_)


if __name__ == "__main__":
    print("nnz {}, accuracy {:.3f}".format(*main()))
