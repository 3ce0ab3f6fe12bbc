"""ProMISe's two trained parts: the auto-prompting module and incremental pattern shifting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnmedseg.networks.fusing import Fusable, fold_attributes
from nnmedseg.ops._precision import at_least_float32, without_autocast
from nnmedseg.ops._simulated_device import device_type


class BasicBlock(nn.Module, Fusable):
    """Two 3x3 convolutions and a shortcut.

    Args:
        in_channels: Channels before.
        channels: Channels after.
        stride: Of the first convolution.
        project: Whether the shortcut has a convolution although the shapes agree.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, project: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if project or stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, channels, H / stride, W / stride)``, rounded up."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    def fused(self) -> nn.Module:
        """Fold both norms."""
        fold_attributes(self, "conv1", "bn1")
        fold_attributes(self, "conv2", "bn2")
        return self


_WIDTHS = (64, 128, 256, 512)
_DEPTHS = (3, 4, 6, 3)


class PointResNet(nn.Module, Fusable):
    """A ResNet-34 with a stem for small maps and a projection in its very last shortcut.

    Args:
        in_channels: Channels of the map.
        outputs: Numbers that it predicts.
    """

    def __init__(self, in_channels: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = map(self._stage, range(4))
        self.fc = nn.Linear(_WIDTHS[-1], outputs)

    @staticmethod
    def _stage(stage: int) -> nn.Sequential:
        width, depth = _WIDTHS[stage], _DEPTHS[stage]
        stride = 1 if stage == 0 else 2
        first = BasicBlock(_WIDTHS[max(stage - 1, 0)], width, stride)
        rest = (
            BasicBlock(width, width, 1, project=stage == 3 and block == depth - 1)
            for block in range(1, depth)
        )
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, outputs)``, the last layer always in float32."""
        if device_type(x) == "cpu":
            x = x.contiguous()  # so small maps train a third faster there than in channels_last
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        wide = at_least_float32(x.dtype)
        with without_autocast(x.device.type):
            pooled = x.to(wide).mean(dim=(2, 3))
            return functional.linear(pooled, self.fc.weight.to(wide), self.fc.bias.to(wide))

    def fused(self) -> nn.Module:
        """Fold the stem's norm."""
        fold_attributes(self, "conv1", "bn1")
        return self


class APM(nn.Module):
    """Auto-prompting module: finds points from maps of the image encoder.

    Args:
        embed_dim: Channels of each of the three maps.
        channels: Channels of the fused map.
        foregrounds: Foreground classes, each of which has its own points.
        num_points: Points of a class.
    """

    def __init__(
        self,
        embed_dim: int,
        channels: int,
        *,
        foregrounds: int,
        num_points: int,
    ):
        super().__init__()
        self.num_points = num_points
        self.fusion = nn.Sequential(
            nn.Conv2d(3 * embed_dim, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.resnet = PointResNet(channels, 2 * foregrounds * num_points)

    def forward(self, maps: Sequence[Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Find the points of N images.

        Args:
            maps: Outputs of the image encoder's middle, three-quarter and last block, each
                ``(N, embed_dim, h, w)``.
            height: Of the image in pixels.
            width: Of the image in pixels.

        Returns:
            Points ``(N * foregrounds, num_points, 2)``, x and y in pixels, in float32, and their
            labels ``(N * foregrounds, num_points)``: the first half is foreground.
        """
        fused = self.fusion(torch.cat([*reversed(maps)], dim=1))
        fractions = self.resnet(fused).sigmoid().reshape(-1, self.num_points, 2)
        points = fractions * fractions.new_tensor([width, height])
        order = torch.arange(self.num_points, device=points.device)
        labels = (order < max(self.num_points // 2, 1)).long()
        return points, labels.expand(points.shape[0], -1)


class IPS(nn.Module):
    """Incremental pattern shifting: an MLP on the pooled embedding shifts the mask tokens.

    Args:
        channels: Channels of the embedding and features of a mask token.
        tokens: Mask tokens.
        foregrounds: Foreground classes, each of which has its own shifts.
    """

    def __init__(self, channels: int, tokens: int, foregrounds: int):
        super().__init__()
        self.tokens = tokens
        self.lin1 = nn.Linear(channels, 4 * channels)
        self.lin2 = nn.Linear(4 * channels, foregrounds * tokens * channels)

    def forward(self, embedding: Tensor) -> Tensor:
        """``(N, channels, h, w)`` to shifts ``(N * foregrounds, tokens, channels)``."""
        pooled = embedding.mean(dim=(2, 3))
        shifts = self.lin2(functional.gelu(self.lin1(pooled)))
        return shifts.reshape(-1, self.tokens, embedding.shape[1])
