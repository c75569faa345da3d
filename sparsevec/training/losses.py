"""What codes are taught by: labels, pairs of a query and its document, or the scores of another model.

All are plain means over the batch, so their size does not depend on it, except the two that teach a head from dense
vectors alone, `listwise_kl` and `relative_error`, which say what they return.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sparsevec.contract.checks import is_positive
from sparsevec.errors import InvalidInput
from sparsevec.training.activations import unit
from sparsevec.training.settings import check_real, check_whole

__all__ = ["ArcFace", "info_nce", "listwise_kl", "margin_mse", "relative_error", "triplet"]


def triplet(codes: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Semi-hard triplets within the batch.  codes (b, dimension) of unit length, labels (b,) of integers -> ().

    With D the squared Euclidean distance, each ordered pair of an anchor a and another row p of its label adds
    max(0, D(a, p) - D(a, n) + margin), where n is the nearest row of another label with D(a, n) > D(a, p), or the
    farthest row of another label when none is that far. The mean over all pairs: Schroff et al., "FaceNet", 2015, as
    TensorFlow Addons' TripletSemiHardLoss counts it; Paria et al. use it on CIFAR-100 with margin 0.1.

    Raises InvalidInput for a batch without two rows of one label, or without two labels.
    """
    check_real("the margin of a triplet must be a finite number", margin)
    _check_labels(codes, labels)
    same = labels[:, None] == labels  # (b, b)
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not pairs.any():
        raise InvalidInput(
            f"the triplet loss needs two rows of one label, found {len(labels)} rows of {len(labels)} labels: "
            "draw several rows of each class into a batch"
        )
    if same.all():
        raise InvalidInput(
            f"the triplet loss needs rows of another label, found {len(labels)} rows that all have the label "
            f"{labels[0].item()}: draw several classes into a batch"
        )
    distances = _squared_distances(codes)
    negatives = distances.masked_fill(same, math.inf).sort(dim=1).values  # (b, b), each row nearest first
    farthest = (~same).sum(dim=1, keepdim=True) - 1  # (b, 1)
    semi_hard = torch.searchsorted(negatives.detach(), distances.detach(), right=True).minimum(farthest)  # (b, b)
    return (distances - negatives.gather(1, semi_hard) + margin)[pairs].relu().mean()


def _squared_distances(codes: Tensor) -> Tensor:
    """(b, dimension) -> (b, b)."""
    products = _products(codes, codes)
    lengths = products.diagonal()
    return (lengths[:, None] + lengths - 2 * products).clamp(min=0)  # rounding may give less than 0


class ArcFace(nn.Module):
    """Cross-entropy of cosines with a learned direction for each class, the true one made harder by an angle.

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3: the logits
    are scale · cos(theta_c), and scale · cos(theta_y + margin) for the true class y. Where theta_y + margin passes pi
    that cosine would rise again; there the logit is scale · (cos(theta_y) - margin · sin(margin)), as in the authors'
    code, so that it falls all the way. Paria et al. use scale 64 and margin 0.5.

    `directions` (classes, dimension) are its parameters: give them to the optimizer, and drop them after the training.
    """

    def __init__(self, dimension: int, classes: int, *, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        for name, number in (("dimension", dimension), ("number of classes", classes)):
            check_whole(f"ArcFace needs a {name} of at least 1", number, 1)
        check_real("ArcFace needs a scale above 0", scale, is_positive)
        check_real("ArcFace needs a margin in [0, pi) radians", margin, lambda real: 0 <= real < math.pi)
        self.scale, self.margin = scale, margin
        self.directions = nn.Parameter(F.normalize(torch.randn(classes, dimension), dim=1))

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """codes (b, dimension) of any length, labels (b,) in [0, classes) -> (). Raises InvalidInput."""
        _check_labels(codes, labels)
        classes, dimension = self.directions.shape
        if codes.shape[1] != dimension:
            raise InvalidInput(f"this ArcFace takes codes of dimension {dimension}, found {codes.shape[1]}")
        if ((labels < 0) | (labels >= classes)).any():
            raise InvalidInput(
                f"labels must lie in [0, {classes}), found {labels.min().item()} to {labels.max().item()}: "
                "number the classes from 0, or make ArcFace with more of them"
            )
        cosines = _products(unit(codes), unit(self.directions))  # (b, classes)
        true = labels.long()[:, None]  # (b, 1)
        logits = cosines.scatter(1, true, _with_margin(cosines.gather(1, true), self.margin))
        return F.cross_entropy(self.scale * logits, true[:, 0])


def _with_margin(cosines: Tensor, margin: float) -> Tensor:
    """cos(theta + margin), continued downwards for theta above pi - margin. The gradient is finite at cos = +-1."""
    squared_sines = 1 - cosines.square()
    vanishing = squared_sines < torch.finfo(cosines.dtype).eps  # there the root has no gradient to speak of
    sines = torch.where(vanishing, 0, torch.where(vanishing, 1, squared_sines).sqrt())
    harder = cosines * math.cos(margin) - sines * math.sin(margin)
    return torch.where(cosines > -math.cos(margin), harder, cosines - margin * math.sin(margin))


def info_nce(queries: Tensor, documents: Tensor, *, temperature: float, document_ids: Tensor | None = None) -> Tensor:
    """Each query must find its document among those of the batch.  (b, dimension), (b, dimension) -> ().

    Mean over i of -log softmax_j(q_i · d_j / temperature) at j = i: van den Oord et al., "Representation Learning with
    Contrastive Predictive Coding", 2018, with in-batch negatives. The i-th document answers the i-th query. A batch of
    one has no negatives and costs 0.

    document_ids (b,): integers that say which documents are the same; equal ones are no negatives of one another.
    Without, a document that is twice in the batch is its own negative, and no training can lower that part. Over
    several processes: `document_ids=gather(ids)` beside the gathered codes. Raises InvalidInput.
    """
    if queries.shape != documents.shape or queries.ndim != 2 or len(queries) == 0:
        raise InvalidInput(
            "info_nce needs a document for each query, (b, dimension) and (b, dimension), found "
            f"{tuple(queries.shape)} and {tuple(documents.shape)}: give row i of the documents as the answer to query i"
        )
    check_real("the temperature of info_nce must be above 0", temperature, is_positive, "; try 0.05")
    scores = _products(queries, documents) / temperature  # (b, b)
    if document_ids is not None:
        _check_labels(documents, document_ids)
        same = document_ids[:, None] == document_ids
        scores = scores.masked_fill(same.fill_diagonal_(False), -math.inf)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def margin_mse(teacher: Tensor, student: Tensor) -> Tensor:
    """How far the student's lead of the right document over each other one is from the teacher's.

    Scores (b, m), (b, m) -> (); column 0 is the right document of each query. Mean over queries i and the others j > 0
    of ((t_i0 - t_ij) - (s_i0 - s_ij))^2: Hofstätter et al., "Improving Efficient Neural Ranking Models with
    Cross-Architecture Knowledge Distillation", 2020, who have m = 2. Raises InvalidInput.
    """
    if teacher.shape != student.shape or teacher.ndim != 2 or teacher.shape[1] < 2 or len(teacher) == 0:
        raise InvalidInput(
            "margin_mse needs scores (b, m) of teacher and student alike, at least two a query, found "
            f"{tuple(teacher.shape)} and {tuple(student.shape)}: score the same documents with both"
        )
    leads = [scores[:, :1] - scores[:, 1:] for scores in (teacher, student)]  # (b, m - 1)
    return (leads[0] - leads[1]).square().mean()


def listwise_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) along each row of scores.  (b, m), (b, m) -> (b,).

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, on similarities instead of classes. Raises
    InvalidInput.
    """
    if teacher.shape != student.shape or teacher.ndim != 2:
        raise InvalidInput(
            f"listwise_kl needs scores (b, m) of teacher and student alike, found {tuple(teacher.shape)} and "
            f"{tuple(student.shape)}: score the same documents with both"
        )
    wanted = teacher.log_softmax(dim=1)
    return (wanted.exp() * (wanted - student.log_softmax(dim=1))).sum(dim=1)


def relative_error(reconstructed: Tensor, rows: Tensor) -> Tensor:
    """Squared error over squared length, summed over the batch: 1 is what zeros give.  (b, d), (b, d) -> ().

    Raises InvalidInput.
    """
    if reconstructed.shape != rows.shape:  # one row would be compared with all
        raise InvalidInput(
            f"relative_error needs (b, d) and (b, d), found {tuple(reconstructed.shape)} and {tuple(rows.shape)}: give "
            "the rows that were reconstructed"
        )
    return (reconstructed - rows).square().sum() / rows.square().sum()


def _check_labels(codes: Tensor, labels: object) -> None:
    if codes.ndim != 2 or len(codes) == 0:
        raise InvalidInput(f"codes must be (b, dimension) with at least one row, found {tuple(codes.shape)}")
    if not isinstance(labels, Tensor):
        found = type(labels).__name__
        raise InvalidInput(f"labels must be a tensor of integers, found {found}: torch.as_tensor(labels) makes one")
    if labels.shape != (len(codes),):
        raise InvalidInput(
            f"labels must be ({len(codes)},), one for each row of codes, found {tuple(labels.shape)}: "
            "give the class of each row as a number"
        )
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise InvalidInput(f"labels must be integers, found {labels.dtype}: number the classes, labels.long()")


def _products(rows: Tensor, others: Tensor) -> Tensor:
    """rows @ others.T in float32 at least, also under autocast: bfloat16 is too coarse for cosines.  -> (b, m)."""
    wide = torch.promote_types(torch.promote_types(rows.dtype, others.dtype), torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return rows.to(wide) @ others.to(wide).T
