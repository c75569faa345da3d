"""The three collections, and the question that is asked of each: what is learned from, what is searched, with what.

cifar100: 100 classes of pictures. Each test picture is a query, the other test pictures are searched (leave one out).
omniglot: drawn characters. Ten of the thirty alphabets are kept from training; each of their drawings is a query, the
    others of these alphabets are searched. An open set: no class that is searched was ever seen.
clinc150: 150 intents of short texts, as frozen MiniLM vectors. Test texts are queries, training texts are searched.

A hit is right when it has the query's label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sparsevec.vectors import Int64s

__all__ = ["LOADERS", "Augment", "Batch", "Epochs", "Part", "Task"]

Augment: TypeAlias = Callable[[Tensor], Tensor]
Batch: TypeAlias = tuple[Tensor, Tensor]
"""inputs (b, ...) float32, labels (b,) int64"""


@dataclass(frozen=True, slots=True)
class Part:
    """inputs (n, channels, height, width) or (n, columns), float32; labels (n,)."""

    inputs: Tensor
    labels: Int64s

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self) -> Iterator[Tensor]:
        """The inputs, 500 at a time."""
        for start in range(0, len(self), 500):
            yield self.inputs[start : start + 500]


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    train: Part
    gallery: Part
    queries: Part
    augment: Augment
    """a batch of training inputs -> the same, altered at random"""
    ks: tuple[int, ...]
    """at which precision is given"""

    @property
    def leave_one_out(self) -> bool:
        """Whether the queries are the gallery; then a query's own row is no answer to it."""
        return self.queries is self.gallery

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1


@dataclass(frozen=True, slots=True)
class Epochs:
    """Batches of `size`, altered; an epoch each time it is iterated, drawn from the global generator.

    each: 1 for every row once; more for that many rows of each class in a batch, as losses over pairs need it, ordered
    (first of class a, first of class b, ..., second of class a, second of class b, ...).
    """

    part: Part
    augment: Augment
    size: int
    each: int = 1

    def __iter__(self) -> Iterator[Batch]:
        labels = torch.from_numpy(self.part.labels)
        known = np.unique(self.part.labels).tolist() if self.each > 1 else []
        rows_of_class = [torch.nonzero(labels == label)[:, 0] for label in known]
        order = torch.randperm(len(labels))
        for start in range(0, len(labels) - self.size + 1, self.size):
            rows = self._few_of_each(rows_of_class) if self.each > 1 else order[start : start + self.size]
            yield self.augment(self.part.inputs[rows]), labels[rows]

    def _few_of_each(self, rows_of_class: list[Tensor]) -> Tensor:
        chosen = torch.randperm(len(rows_of_class))[: self.size // self.each].tolist()
        drawn = [rows_of_class[label][torch.randperm(len(rows_of_class[label]))[: self.each]] for label in chosen]
        return torch.stack(drawn, dim=1).flatten()


# ---- cifar100


def cifar100(folder: Path, *, quick: bool) -> Task:
    """15,000 pictures to learn from, 5,000 to search. Quick: of 20 classes, 1,600 and 600."""
    parts = []
    for name, most in (("train", 80), ("test", 30)):
        sheets = [_sheet(path) for path in sorted(folder.glob(f"{name}_*.webp"))]
        with np.load(folder / f"{name}_labels.npz") as arrays:
            labels = arrays["fine"].astype(np.int64)
        rows = _first(labels, classes=20, each=most) if quick else np.arange(len(labels))
        parts.append(Part(_standard(np.concatenate(sheets)[rows]), labels[rows]))
    train, test = parts
    return Task("cifar100", train, test, test, flipped_and_cropped, (1, 4, 16))


def _sheet(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pictures (n, 3, 32, 32) of one contact sheet."""
    from PIL import Image

    sheet = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    return sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)


def _first(labels: Int64s, *, classes: int, each: int) -> Int64s:
    """The rows of the first `classes` labels, no more than `each` of one label."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(classes)]))


def _standard(pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """Mean 0 and deviation 1 of each colour, by CIFAR-100's own figures."""
    mean = torch.tensor([0.5071, 0.4865, 0.4409]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.2673, 0.2564, 0.2762]).view(1, 3, 1, 1)
    return (torch.from_numpy(pictures).float() / 255 - mean) / deviation


def flipped_and_cropped(pictures: Tensor) -> Tensor:
    """Each picture flipped or not, moved by up to 4 pixels, a square of 9 blanked.  (b, c, 32, 32) -> the same."""
    b, side = len(pictures), torch.arange(32)
    across, down = (torch.randint(9, (b, 1)) + side for _ in range(2))
    across = torch.where(torch.rand(b, 1) < 0.5, across.flip(1), across)
    padded = F.pad(pictures, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    moved = padded[torch.arange(b).view(b, 1, 1), down[:, :, None], across[:, None, :]]
    x, y = (torch.randint(32, (b, 1)) for _ in range(2))
    blank = ((side - y).abs() < 5)[:, :, None] & ((side - x).abs() < 5)[:, None, :]
    return moved.masked_fill(blank[..., None], 0).permute(0, 3, 1, 2)  # laid out as channels_last


# ---- omniglot


def omniglot(folder: Path, *, quick: bool) -> Task:
    """Twenty alphabets to learn from, the other ten to search, in alphabetical order. Quick: four and two."""
    with np.load(folder / "omniglot35.npz") as arrays:
        ink, characters, names = arrays["x"], arrays["y"].astype(np.int64), arrays["names"].tolist()
    alphabets = np.array([name.split("/")[0] for name in names])[characters]
    known = sorted(set(alphabets))
    seen, unseen = (known[:4], known[20:22]) if quick else (known[:20], known[20:])
    parts = []
    for chosen in (seen, unseen):
        rows = np.flatnonzero(np.isin(alphabets, chosen))
        labels = np.unique(characters[rows], return_inverse=True)[1].astype(np.int64)
        drawings = (torch.from_numpy(ink[rows]).float()[:, None] / 9 - 0.08) / 0.2  # mean 0, deviation 1
        parts.append(Part(drawings, labels))
    train, test = parts
    return Task("omniglot", turned(train), test, test, warped, (1, 10))


def turned(part: Part) -> Part:
    """Four times as many classes: a character turned by 90, 180 or 270 degrees is another (Santoro et al., 2016)."""
    classes = int(part.labels.max()) + 1
    turns = [torch.rot90(part.inputs, turn, (2, 3)) for turn in range(4)]
    return Part(torch.cat(turns), np.concatenate([part.labels + classes * turn for turn in range(4)]))


def warped(drawings: Tensor) -> Tensor:
    """Each drawing turned, stretched, sheared and moved a little, as hands differ.  (b, 1, h, w) -> the same."""
    b = len(drawings)
    turn, shear = (torch.randn(b) * 0.12 for _ in range(2))
    stretch = 1 + 0.08 * torch.randn(b, 2)
    move = 0.06 * torch.randn(b, 2)
    across = torch.stack([turn.cos() * stretch[:, 0], shear - turn.sin(), move[:, 0]], dim=1)
    down = torch.stack([turn.sin(), turn.cos() * stretch[:, 1], move[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(drawings.shape), align_corners=False)
    return F.grid_sample(drawings, grid, padding_mode="border", align_corners=False)


# ---- clinc150


def clinc150(folder: Path, *, quick: bool) -> Task:
    """15,000 texts to learn from and to search, 4,500 to search with. Quick: the first 30 intents."""
    parts = []
    with np.load(folder / "minilm.npz") as arrays:
        for name, most in (("train", 60), ("test", 20)):
            labels = arrays[f"{name}_y"].astype(np.int64)
            rows = _first(labels, classes=30, each=most) if quick else np.arange(len(labels))
            vectors = torch.from_numpy(arrays[f"{name}_x"][rows].astype(np.float32))
            parts.append(Part(F.normalize(vectors, dim=1), labels[rows]))
    train, test = parts
    return Task("clinc150", train, train, test, noisy, (1, 10))


def noisy(vectors: Tensor) -> Tensor:
    """Each unit vector moved by a third of its length in a random direction.  (b, columns) -> the same."""
    columns = vectors.shape[1]
    noise = torch.randn(vectors.shape) / columns**0.5
    return F.normalize(vectors + 0.3 * noise, dim=1)


LOADERS: dict[str, Callable[..., Task]] = {"cifar100": cifar100, "omniglot": omniglot, "clinc150": clinc150}
