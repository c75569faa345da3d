"""The backbones: a small residual network for pictures, nothing at all for vectors that are there already."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.paper.data import Task
from sparsevec.training.loop import Precision

__all__ = ["backbone", "centred", "precision", "width"]

WIDTH = 32  # channels of the first layer; the last has eight times as many


def backbone(task: Task) -> nn.Module:
    """Untrained: inputs of the task -> (b, width(task))."""
    if task.train.inputs.ndim == 2:
        return nn.Identity()
    return residual_network(task.train.inputs.shape[1], first_stride=2 if task.name == "omniglot" else 1)


def width(task: Task) -> int:
    return task.train.inputs.shape[1] if task.train.inputs.ndim == 2 else 8 * WIDTH


def residual_network(channels: int, first_stride: int) -> nn.Module:
    """Ten convolutions, each with BatchNorm and ReLU; three residual pairs.  (b, channels, h, w) -> (b, 8 WIDTH)."""
    network = nn.Sequential(
        convolution(channels, WIDTH, first_stride),
        convolution(WIDTH, 2 * WIDTH, 1 if first_stride == 2 else 2),
        Residual(2 * WIDTH),
        convolution(2 * WIDTH, 4 * WIDTH, 2),
        Residual(4 * WIDTH),
        convolution(4 * WIDTH, 8 * WIDTH, 2),
        Residual(8 * WIDTH),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return network.to(memory_format=torch.channels_last)  # a third faster on the CPU


def centred(task: Task, network: nn.Module) -> nn.Module:
    """The backbone, its outputs about 0 and about as long as a unit vector.

    They are averages of ReLUs, all on one side: without this a head that is drawn at random begins with half of its
    dimensions always on and half never, and most of those stay so. Vectors from elsewhere are left as they are.
    """
    if isinstance(network, nn.Identity):
        return network
    norm = nn.BatchNorm1d(width(task))
    nn.init.constant_(norm.weight, width(task) ** -0.5)
    return nn.Sequential(network, norm)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pair = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        added: Tensor = self.pair(inputs)
        return inputs + added


def precision() -> Precision:
    """bfloat16 where the processor multiplies in it (half the time of a step), else float32."""
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if fast else "float32"
