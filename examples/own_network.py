"""Your own network learns with labels and a budget, then an ordinary index searches it: python own_network.py [URL]

`Words` stands for a network of yours: any nn.Module that gives one row an input. From their descriptions alone it
learns which Debian packages are of one section; the queries are packages that it has not seen.
"""

import sys
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

import sparsevec as sv
from sparsevec.demo import shipped
from sparsevec.training import ArcFace, BudgetController, Objective, Plan, SparseTower, train


class Words(nn.Sequential):  # (b, 80) -> (b, 128)
    def __init__(self) -> None:
        layers = nn.LayerNorm(128), nn.Dropout(0.3), nn.Linear(128, 128), nn.ReLU()
        super().__init__(nn.EmbeddingBag(2**14, 128), *layers)


def main(url: str = "reference:own_network.sqlite") -> None:
    torch.manual_seed(0)
    payloads = shipped().payloads
    words = [(str(payload["text"]).lower().split() * 80)[:80] for payload in payloads]  # short texts repeat
    texts = torch.tensor([[crc32(word.encode()) % 2**14 for word in text] for text in words])
    sections, labels = np.unique([str(payload["section"]) for payload in payloads], return_inverse=True)
    asked, kept = np.split(np.random.default_rng(0).permutation(len(texts)), [500])
    tower, arcface = SparseTower(Words(), width=128, dimension=1024), ArcFace(1024, len(sections), scale=16, margin=0.2)
    data = torch.utils.data.TensorDataset(texts[kept], torch.tensor(labels[kept]))
    batches = torch.utils.data.DataLoader(data, batch_size=128, shuffle=True)
    model = nn.ModuleList([tower, arcface])  # all that learns
    plan = Plan(steps=400, document_regularizer_weight=BudgetController(sv.Budget(nnz=16), weight=0.1, ramp=200))

    def objective(batch: list[Tensor]) -> Objective:
        codes = tower(batch[0])
        return Objective(loss=arcface(codes, batch[1]), documents=codes)

    for step in train(model, batches, objective, torch.optim.Adam(model.parameters(), lr=3e-3), plan):
        if step.step % 50 == 0:
            print(f"step {step.step}: loss {step.loss:.2f}, {step.nnz:.1f} weights a document, F {step.flops:.2f}")
    documents, queries = tower.encode([texts[kept]]), tower.encode([texts[asked]])
    adapter = sv.connect(url)
    adapter.drop()  # what an earlier run left
    adapter.create(documents.dimension)
    print(sv.ingest(adapter, kept.tolist(), documents, empty="skip"))
    print(sv.verify(adapter, documents, queries, k=10, ids=kept.tolist()).require_exact())
    answers = zip(labels[asked], adapter.search(queries, k=10), strict=True)
    same = [labels[int(hit.id)] == label for label, hits in answers for hit in hits]
    chance = np.mean(labels[kept] == labels[asked, None])
    print(f"of the query's section: {np.mean(same):.0%} of the hits; by chance it would be {chance:.0%}")
    adapter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
