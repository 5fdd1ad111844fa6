"""The benchmark models in PyTorch: ``MODELS[name]() -> (module, make_x)``; random weights from one seed.

Modules and inputs are on the GPU where there is one.
"""

import torch
from torch import nn
from torch.nn import functional

torch.backends.cudnn.conv.fp32_precision = "ieee"  # as ours is; other products are so already
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1000 + seed)).to(DEVICE)


def fcn(width=1024, depth=5, outputs=10):
    sizes = [784, *[width] * depth]
    hidden = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, outputs)), lambda n, seed: normal(seed, n, 784)


def cnn(channels=32, outputs=10):
    sizes = [3, channels, channels, channels]
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    head = nn.Linear(32 * 32 * channels, outputs)
    return nn.Sequential(*layers, nn.Flatten(), head), lambda n, seed: normal(seed, n, 3, 32, 32)


class Block(nn.Module):
    """A pre-activation residual block with group norm."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, before), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(before, width, 1, stride, bias=False) if before != width else nn.Identity()

    def forward(self, x):
        h = self.conv1(functional.relu(self.norm1(x)))
        return self.skip(x) + self.conv2(functional.relu(self.norm2(h)))


class ResNet(nn.Module):
    """Three stages of residual blocks, global average pooling, a linear head."""

    def __init__(self, stages=(16, 32, 64), blocks=1, outputs=10):
        super().__init__()
        self.stem = nn.Conv2d(3, stages[0], 3, 1, 1, bias=False)
        layers, before = [], stages[0]
        for stage, width in enumerate(stages):
            for block in range(blocks):
                layers.append(Block(before, width, 2 if stage and not block else 1))
                before = width
        self.blocks, self.head = nn.Sequential(*layers), nn.Linear(before, outputs)

    def forward(self, x):
        return self.head(functional.relu(self.blocks(self.stem(x))).mean((2, 3)))


def resnet():
    return ResNet(), lambda n, seed: normal(seed, n, 3, 32, 32)


class TransformerBlock(nn.Module):
    """A pre-norm block with fused queries, keys and values."""

    def __init__(self, width, heads, causal=False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / (width / self.heads) ** 0.5
        if self.causal:
            scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1), -1e9)
        x = x + self.out((torch.softmax(scores, -1) @ parts[2]).transpose(1, 2).reshape(n, t, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Position(nn.Module):
    """Adds a learned vector for each place; a module of its own, as some peers need every parameter to be."""

    def __init__(self, length, width):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(length, width))

    def forward(self, x):
        return x + self.weight


class Transformer(nn.Module):
    """Pre-norm blocks over a projected sequence, mean pooling, a linear head."""

    def __init__(self, width=128, blocks=2, length=32, heads=4, outputs=10):
        super().__init__()
        self.embed = nn.Linear(64, width, bias=False)
        self.position = Position(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(self.blocks(self.position(self.embed(x))).mean(1))


def transformer(**sizes):
    return Transformer(**sizes), lambda n, seed: normal(seed, n, sizes.get("length", 32), 64)


def seeded(make):
    """The same with weights drawn from one seed, on the device."""

    def made(**sizes):
        torch.manual_seed(0)
        module, make_x = make(**sizes)
        return module.to(DEVICE), make_x

    return made


MODELS = {make.__name__: seeded(make) for make in (fcn, cnn, resnet, transformer)}
