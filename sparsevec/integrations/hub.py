"""Hugging Face: a model folder as a repository, with the measured figures in its card's metadata. Extra `hub`.

    push(encoder, "somebody/products-sparse", private=True)
    encoder = pull("somebody/products-sparse", revision="main")

What is pushed is the folder that `SparseEncoder.save` makes: `config.json`, `model.safetensors` and `README.md`, whose
metadata (`model-index`) says what was measured. What is pulled is held against its own SHA-256. Tokens are those of
`huggingface_hub`: `token=`, or HF_TOKEN, or a login.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsevec import SparseEncoder, __version__
from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput
from sparsevec.integrations.guest import guest

with guest("huggingface_hub", "hub"):
    from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

__all__ = ["metadata", "pull", "push"]

_FILES = ["README.md", "config.json", "model.safetensors"]
_CLIENTS = ("httpx", "httpx2", "requests")  # of huggingface_hub's releases; their errors are no errors of the hub's
_METRICS = {
    "recall_10": "overlap with the exact dense top 10",
    "second_look_recall_10": "the same at a second look",
    "residual_recall_10": "the same by residual codes",
    "recall_10_at_100": "dense top 10 found in the sparse top 100",
    "flops": "F, multiplications of a query-document pair",
    "active_dims": "weights of a document",
    "query_active_dims": "weights of a query",
}


def push(
    encoder: SparseEncoder,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Push a sparse encoder",
    endpoint: str | None = None,
) -> str:
    """Make the repository where it is not there, and upload the model in one commit; the commit's url.

    Raises NotFitted, InvalidInput for a name that is none, BackendUnsupported where the hub refuses, BackendDown.
    """
    with tempfile.TemporaryDirectory() as parent, _their_errors(repo_id):
        folder = Path(parent) / "model"
        encoder.save(folder)
        _with_metadata(folder / "README.md", encoder, repo_id)
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=_FILES, revision=revision, commit_message=message
        )
        return str(commit.commit_url)


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
) -> SparseEncoder:
    """The model of a repository, from the cache where it is there already.

    Raises InvalidInput where there is no such repository or revision, BackendUnsupported where the hub refuses,
    BackendDown, ModelBroken for a repository that holds no model of ours, or not a whole one.
    """
    with _their_errors(repo_id):
        folder = snapshot_download(
            repo_id, revision=revision, token=token, cache_dir=cache_dir, endpoint=endpoint, allow_patterns=_FILES
        )
    return SparseEncoder.load(folder)


def metadata(encoder: SparseEncoder, name: str) -> ModelCardData:
    """Of the card: what was measured on rows that were not trained on, as the hub's `model-index` has it.

    Values have no intervals there; these stand in the card's text.
    """
    figures = encoder.figures
    asked = {"sample": "queries of a sample", "documents": "documents asked as queries", "pairs": "pairs of two models"}
    who = asked[figures.asked]
    results = [
        EvalResult(
            task_type="feature-extraction",
            dataset_type="own",
            dataset_name=f"{figures.documents} documents of one's own, {figures.queries} {who}, not trained on",
            metric_type=metric,
            metric_name=said,
            metric_value=round(float(value), 4),
        )
        for metric, said in _METRICS.items()
        if (value := getattr(figures, metric)) is not None
    ]
    return ModelCardData(
        library_name="sparsevec",
        tags=["sparse", "sparse-encoder", "feature-extraction", f"sparsevec-{__version__}"],
        model_name=name.rpartition("/")[2],
        eval_results=results,
    )


def _with_metadata(card: Path, encoder: SparseEncoder, repo_id: str) -> None:
    text = card.read_text(encoding="utf-8")
    ModelCard(f"---\n{metadata(encoder, repo_id).to_yaml()}\n---\n\n{text}").save(card)


@contextmanager
def _their_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        if isinstance(error, GatedRepoError):
            raise BackendUnsupported(f"{repo_id!r:.100} is gated: ask its owner for access ({error})") from error
        raise InvalidInput(
            f"the hub has no {repo_id!r:.100} with that revision, or does not show it to you: check the name and the "
            f"token ({error})"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (408, 429) or status >= 500:
            raise BackendDown(f"the hub is busy or down, ask again later ({error})") from error
        raise BackendUnsupported(f"the hub refuses what was asked of {repo_id!r:.100} ({error})") from error
    except LocalEntryNotFoundError as error:
        raise BackendDown(f"the hub is not reached, and {repo_id!r:.100} is not in the cache ({error})") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        raise BackendDown(f"the hub is not reached ({error})") from error
