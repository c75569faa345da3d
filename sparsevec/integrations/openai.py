"""Any endpoint that speaks OpenAI's embeddings protocol: OpenAI, vLLM, TEI, Ollama and others. Extra `openai`.

The address and the key come from the environment, as the `openai` package reads them: OPENAI_BASE_URL and
OPENAI_API_KEY. Its client retries what can be retried (429, 5xx, connections) with back-off.
"""

from __future__ import annotations

import os
from typing import Any

from sparsevec.errors import BackendDown, BackendUnsupported, InvalidInput, printable
from sparsevec.integrations.guest import guest

__all__ = ["embedder"]

_RETRIES = 5  # of a request, half a second to eight apart


def embedder(model: str = "", *, base_url: str | None = None, retries: int = _RETRIES) -> Any:
    """Texts to (n, d) by `model` at `base_url`, or at OPENAI_BASE_URL.

    Raises InvalidInput without a model and for an address that is none, ClientMissing; when called, BackendDown when no
    answer came after the retries, BackendUnsupported, with what the endpoint said, when it will not do it.
    """
    if not model:
        raise InvalidInput("an endpoint has many models; name one: openai:text-embedding-3-small")
    with guest("openai", "openai"):
        import openai
    key = os.environ.get("OPENAI_API_KEY") or "none"  # endpoints of one's own often want none
    try:
        client = openai.OpenAI(api_key=key, base_url=base_url, max_retries=retries)
    except Exception as error:  # its words may repeat a part of the address, which may hold a password
        raise InvalidInput(
            "base_url, or OPENAI_BASE_URL, must be the address of an endpoint, such as http://localhost:8000/v1, and "
            "retries a number of at least 0"
        ) from error

    def embedded(texts: list[str]) -> list[list[float]]:
        try:
            found = client.embeddings.create(model=model, input=texts, encoding_format="float")
        except openai.APIConnectionError as error:
            raise BackendDown(f"no answer from the embeddings endpoint at {_host(client)}") from error
        except openai.APIStatusError as error:
            code, said = error.status_code, printable(error.message, 200)
            refused = BackendDown if code in (408, 429) or code >= 500 else BackendUnsupported
            raise refused(f"the endpoint at {_host(client)} said {code}: {said}") from error
        try:
            return [row.embedding for row in sorted(found.data, key=lambda row: row.index)]
        except (AttributeError, TypeError) as error:
            said = printable(found, 200)
            raise BackendUnsupported(f"the endpoint at {_host(client)} gave no embeddings, but: {said}") from error

    return embedded


def _host(client: Any) -> str:
    return str(client.base_url.copy_with(userinfo=b"", query=None))
