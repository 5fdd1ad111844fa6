"""Models of particular users in PyTorch, as in ``applied_jax``: ``MODELS[name]() -> (module, make_x)``."""

import torch
from torch import nn
from torch.func import functional_call, hessian, vmap
from torch.nn import functional

from benchmarks.models_torch import DEVICE, Position, TransformerBlock, normal, seeded


def tokens(seed, n, length, vocabulary):
    drawn = torch.randint(vocabulary, (n, length), generator=torch.Generator().manual_seed(2000 + seed))
    return drawn.to(DEVICE)


class Gpt(nn.Module):
    """Pre-norm causal blocks, one loss for each example: the mean over its next tokens (o = 1)."""

    def __init__(self, width, blocks, length, heads, vocabulary, *, tied):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, width), Position(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, causal=True) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=0.3)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x):
        logits = self.head(self.norm(self.blocks(self.position(self.embed(x[:, :-1])))))
        return functional.cross_entropy(logits.transpose(1, 2), x[:, 1:], reduction="none").mean(1)


def gpt(width=64, blocks=2, length=32, heads=4, vocabulary=512, *, tied=True):
    module = Gpt(width, blocks, length, heads, vocabulary, tied=tied)
    return module, lambda n, seed: tokens(seed, n, length + 1, vocabulary)


def untied_gpt():
    return gpt(tied=False)


class Residual(nn.Module):
    """The Laplacian of a network of tanh layers, less a source: the output holds second derivatives (o = 1)."""

    def __init__(self, width, depth, dimensions):
        super().__init__()
        sizes = [dimensions, *[width] * (depth - 1)]
        hidden = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.Tanh())]
        self.u = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, x):
        params = dict(self.u.named_parameters())
        u = lambda point: functional_call(self.u, params, (point,))[0]
        return vmap(lambda point: hessian(u)(point).diagonal().sum() - point.sin().sum())(x)


def residual(width=64, depth=4, dimensions=3):
    return Residual(width, depth, dimensions), lambda n, seed: normal(seed, n, dimensions)


class Embedding(nn.Module):
    """Looked up, averaged over places, and a dense head."""

    def __init__(self, vocabulary, width, outputs):
        super().__init__()
        self.table, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, outputs, bias=False)

    def forward(self, x):
        return self.head(self.table(x).mean(1))


def embedding(vocabulary=5000, width=64, length=32, outputs=10):
    return Embedding(vocabulary, width, outputs), lambda n, seed: tokens(seed, n, length, vocabulary)


class Recurrent(nn.Module):
    """``nn.RNN``, read out at its end."""

    def __init__(self, features, width, outputs):
        super().__init__()
        self.rnn, self.head = nn.RNN(features, width, batch_first=True), nn.Linear(width, outputs, bias=False)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def recurrent(width=128, length=32, features=64, outputs=10):
    return Recurrent(features, width, outputs), lambda n, seed: normal(seed, n, length, features)


MODELS = {make.__name__: seeded(make) for make in (gpt, untied_gpt, residual, embedding, recurrent)}
