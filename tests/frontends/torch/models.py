"""Models that are awkward to record, in float64, each with an input of n examples.

    module, x = MODELS["lstm"](n)

Modules are small, random and in evaluation mode.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

MODELS = {}


def model(make):
    """Registers a function of n that returns a module (or ``(f, module)``) and its input."""

    def made(n, seed=0):
        torch.manual_seed(1)
        module, draw = make()
        torch.manual_seed(seed)
        return module.double().eval(), draw(n)

    MODELS[make.__name__] = made
    return made


def normal(*shape):
    return lambda n: torch.randn(n, *shape, dtype=torch.float64)


class Of(nn.Module):
    """A module of named parts and a function of it."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def weight(*shape):
    return nn.Parameter(torch.randn(shape) / math.sqrt(shape[-1] if shape else 1))


# ------------------------------------------------------------------------------------------- convolutional networks


@model
def cnn():
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, (3, 2), stride=(2, 1), groups=2, dilation=(1, 2), padding="valid"),
        nn.GroupNorm(2, 4),
        nn.PReLU(4),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=(1, 2)),
        nn.InstanceNorm2d(6, affine=True),
        nn.PReLU(),
        nn.Conv2d(6, 2, 3, padding="same", padding_mode="reflect"),
        nn.Hardtanh(inplace=True),
        nn.Conv2d(2, 2, 2, padding=1, padding_mode="circular", bias=False),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    for part in layers:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return layers, normal(2, 6, 7)


@model
def conv_of_every_rank():
    return Of(
        lambda m, x: (
            m.c1(x.flatten(2)).mean((1, 2))[:, None]
            + m.t3(torch.tanh(m.c3(x))).sum((2, 3, 4))
            + m.t1(x.flatten(2)).sum(2)
        ),
        c1=nn.Conv1d(2, 3, 3, padding=2, dilation=2),
        t1=nn.ConvTranspose1d(2, 2, 3, stride=3, bias=False),
        c3=nn.Conv3d(2, 3, 2, padding=(1, 0, 1), padding_mode="replicate"),
        t3=nn.ConvTranspose3d(3, 2, 2, stride=(1, 2, 1), dilation=2),
    ), normal(2, 3, 3, 2)


@model
def frames():
    """Frames folded into the batch of a convolution, within one example."""
    return Of(
        lambda m, x: m.head(torch.relu(m.conv(x.flatten(0, 1))).mean((2, 3)).unflatten(0, x.shape[:2]).mean(1)),
        conv=nn.Conv2d(1, 3, 3, padding=1),
        head=nn.Linear(3, 2),
    ), normal(4, 1, 5, 5)


@model
def residual_in_place():
    """Writes in place to views and to inputs of residual sums."""

    def forward(m, x):
        h = m.first(x)
        h[:, ::2].mul_(0.5)
        h += m.second(h.clone())
        h.view(h.shape[0], 2, 3)[:, 1].mul_(2.0)
        h[:, 0] = m.scale * h[:, 1].clone()
        h[:, 3] += m.shift
        return m.last(h)

    return Of(
        forward, first=nn.Linear(4, 6), second=nn.Linear(6, 6), last=nn.Linear(6, 3), scale=weight(), shift=weight()
    ), normal(4)


# --------------------------------------------------------------------------------------------------- recurrent nets


@model
def lstm():
    return Of(
        lambda m, x: m.head(m.lstm(x)[0][:, -1]),
        lstm=nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        head=nn.Linear(8, 2),
    ), normal(5, 3)


@model
def lstm_projected():
    return Of(
        lambda m, x: m.lstm(x.transpose(0, 1))[1][1].transpose(0, 1).flatten(1),
        lstm=nn.LSTM(3, 4, proj_size=2, bias=False),
    ), normal(4, 3)


@model
def gru():
    return Of(
        lambda m, x: m.gru(x)[0].mean(1), gru=nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    ), normal(4, 3)


@model
def rnn():
    return Of(
        lambda m, x: m.tanh(x)[0][:, -1] + m.relu(x)[1][0],
        tanh=nn.RNN(3, 4, batch_first=True),
        relu=nn.RNN(3, 4, nonlinearity="relu", batch_first=True),
    ), normal(4, 3)


@model
def cells():
    def forward(m, x):
        h, c = m.lstm(x[:, 0])
        for t in range(1, x.shape[1]):
            h, c = m.lstm(x[:, t], (h, c))
            h = m.rnn(x[:, t], m.gru(x[:, t], h))
        return h

    return Of(forward, lstm=nn.LSTMCell(3, 4), gru=nn.GRUCell(3, 4), rnn=nn.RNNCell(3, 4)), normal(3, 3)


# ------------------------------------------------------------------------------------------------------- attention


@model
def transformer_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True, activation="gelu")
    last = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True, norm_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    return Of(
        lambda m, x: m.head(m.last(m.encoder(x), src_mask=mask, is_causal=True).mean(1)),
        encoder=nn.TransformerEncoder(layer, 2),
        last=last,
        head=nn.Linear(8, 2),
    ), normal(5, 8)


@model
def attention_variants():
    """Cross attention with its own widths, added rows, a padding mask that depends on the example, and weights out."""

    def forward(m, x):
        padding = x[:, :, 0] > 1.0
        padding = padding & (torch.arange(4, device=x.device) > 0)
        mixed, scores = m.cross(x, x[..., :3], x[..., :2], key_padding_mask=padding)
        own, _ = m.own(x, x, x, attn_mask=torch.zeros(4, 4, device=x.device).bool(), need_weights=False)
        return (mixed + own).sum(1) + scores.sum((1, 2))[:, None]

    return Of(
        forward,
        cross=nn.MultiheadAttention(6, 2, kdim=3, vdim=2, add_bias_kv=True, add_zero_attn=True, batch_first=True),
        own=nn.MultiheadAttention(6, 3, bias=False, batch_first=True),
    ), normal(4, 6)


@model
def fused_attention():
    """One fused projection, heads by reshape, fused attention with a causal mask."""

    def forward(m, x):
        q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in m.qkv(x).split(6, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return m.out(mixed.transpose(1, 2).flatten(2))[:, -1]

    return Of(forward, qkv=nn.Linear(6, 18), out=nn.Linear(6, 4)), normal(4, 6)


@model
def branch_on_data():
    """A Python branch on the data of each example, and a length that depends on it."""

    def one(m, x):
        if x[0, 0, 0] > 0:
            return m.first(x).sum(1)
        count = 1 + int(x[0, 1, 0] > 0)
        return m.second(torch.tanh(m.first(x[:, :count]))).mean(1)

    return Of(
        lambda m, x: torch.cat([one(m, part) for part in x.split(1)]), first=nn.Linear(3, 3), second=nn.Linear(3, 3)
    ), normal(3, 3)


# ---------------------------------------------------------------------------------------------- weights, many ways


@model
def tied_thrice():
    """One weight used three times and once transposed, across modules and through views."""

    def forward(m, x):
        h = torch.tanh(m.a(x))
        h = torch.tanh(functional.linear(h, m.b.weight[:, :4]) @ m.a.weight)
        return h + m.b(x) @ m.a.weight.view(2, 2, 4).transpose(0, 1).reshape(4, 4)[:, :2].repeat(1, 2)

    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    return Of(forward, a=a, b=b), normal(4)


@model
def weight_norm():
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 5)),
        nn.Tanh(),
        nn.Unflatten(1, (5, 1)),
        parametrizations.weight_norm(nn.Conv1d(5, 3, 1)),
        nn.Flatten(),
    ), normal(4)


@model
def spectral_norm():
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(5, 2))
    ), normal(4)


class Lora(nn.Module):
    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.down = weight(rank, base.in_features)
        self.up = weight(base.out_features, rank)

    def forward(self, x):
        return functional.linear(x, self.base.weight + 0.5 * self.up @ self.down, self.base.bias)


@model
def lora():
    return nn.Sequential(Lora(nn.Linear(4, 6), 2), nn.Tanh(), Lora(nn.Linear(6, 3), 1)), normal(4)


@model
def bilinear():
    return Of(
        lambda m, x: m.bilinear(m.conv(x).mean(1), x[:, 0]),
        bilinear=nn.Bilinear(5, 5, 3),
        conv=nn.Conv1d(3, 2, 3, padding=1),
    ), normal(3, 5)


@model
def products():
    """Every form of matrix product, the weight on either side."""

    def forward(m, x):
        t = x.shape[1]
        h = torch.addmm(m.bias, x.flatten(0, 1), m.w).unflatten(0, (-1, t))
        h = h + torch.baddbmm(h, x, m.stack[:1].expand(x.shape[0], 4, 4), beta=0.5, alpha=2.0)
        h = h + torch.einsum("nti,oi->nto", x, m.w) + torch.einsum("ij,ntj,nti->nti", m.w, x, x)
        h = h + (m.mix @ x) + torch.matmul(x.unsqueeze(1), m.stack).sum(1)
        h = h + torch.tensordot(x, m.w, dims=([2], [1])) + x @ m.w.mT
        v = (
            (h @ m.v)[..., None]
            + torch.mv(m.w, m.v)
            + torch.bmm(m.stack[1:2].expand(len(x), 4, 4), h.mT[..., :2]).mean((1, 2))[:, None, None]
        )
        return (v + m.shift / 3 - h / (m.scale**2 + 1) + m.scale / (1 + h**2)).sum(1)

    return Of(
        forward, w=weight(4, 4), stack=weight(2, 4, 4), bias=weight(4), mix=weight(3, 3), v=weight(4), shift=weight(3, 1),
        scale=weight(4),
    ), normal(3, 4)  # fmt: skip


@model
def carried():
    """Parameters that are laid beside data: class token, positions, learnt padding, a table read by constants."""

    def forward(m, x):
        h = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1)
        h = h + m.positions(torch.arange(h.shape[1], device=x.device)) + m.table[m.index].mean(0)
        h = torch.where(h > 1.0, m.cap, h)
        h = torch.stack([h, m.token.expand_as(h)], 1).flatten(1, 2)
        buffer = torch.zeros_like(h)
        buffer[:] = h
        buffer[:, 0] = m.token[0]
        return torch.nn.functional.pad(torch.logsumexp(torch.cat([buffer, h * m.gain], 2), 1), (1, 0), value=1.0)

    made = Of(
        forward,
        token=weight(1, 1, 3),
        positions=nn.Embedding(5, 3),
        table=weight(6, 3),
        cap=weight(),
        gain=weight(1, 3),
    )
    made.register_buffer("index", torch.tensor([[0, -1, 3, 1], [3, 2, 0, 0]]))
    return made, normal(3, 3)


@model
def embeddings():
    """Padding, bags of all modes, an index along the second axis."""

    def forward(m, x):
        h = m.words(x).mean(1) + m.sums(x) + m.means(x) + m.maxima(x)
        return (
            h
            + m.words.weight.t()[:, x].mean(2).t()
            + torch.index_select(m.sums.weight, 1, torch.tensor([2, 0, 1], device=x.device))[x[:, 0]]
        )

    return Of(
        forward,
        words=nn.Embedding(7, 3, padding_idx=0),
        sums=nn.EmbeddingBag(7, 3, mode="sum", padding_idx=2),
        means=nn.EmbeddingBag(7, 3, mode="mean"),
        maxima=nn.EmbeddingBag(7, 3, mode="max"),
    ), lambda n: torch.randint(0, 7, (n, 4))


@model
def norms():
    """All norms, scale and shift of several axes, plain and one-centred root mean square."""

    def forward(m, x):
        h = m.layer(x) + m.rms(x) + m.group(x) + m.batch(x) + m.instance(x)
        rms = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)
        return (rms * (1.0 + m.centred)).sum(1)

    made = Of(
        forward,
        layer=nn.LayerNorm((4, 3)),
        rms=nn.RMSNorm(3),
        group=nn.GroupNorm(2, 4),
        batch=nn.BatchNorm1d(4),
        instance=nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        centred=weight(3),
    )
    made.batch.running_mean.normal_()
    return made, normal(4, 3)


@model
def experts():
    """Tokens routed to experts by a learnt gate: which weights are used depends on the example."""

    def forward(m, x):
        tokens = x.flatten(0, 1)
        score, chosen = torch.softmax(m.gate(tokens), -1).topk(2, -1)
        out = torch.zeros_like(tokens)
        for k in range(4):
            at, slot = torch.where(chosen == k)
            if len(at):
                hidden = torch.relu(functional.linear(tokens[at], m.up[k]))
                out.index_add_(0, at, functional.linear(hidden, m.down[k]) * score[at, slot, None])
        return out.unflatten(0, x.shape[:2]).mean(1)

    return Of(forward, gate=nn.Linear(4, 4), up=weight(4, 6, 4), down=weight(4, 4, 6)), normal(3, 4)


class OldSquare(torch.autograd.Function):
    """A custom function of the old style, which ``vmap`` refuses."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class OldProduct(torch.autograd.Function):
    """One that holds a weight, so that no call that reads it is seen."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.mT, x.mT @ grad


@model
def old_function():
    return Of(lambda m, x: m.b(OldSquare.apply(m.a(x))), a=nn.Linear(3, 4), b=nn.Linear(4, 2)), normal(3)


@model
def old_function_of_weight():
    return Of(
        lambda m, x: m.b(torch.tanh(OldProduct.apply(m.a(x), m.w))),
        a=nn.Linear(3, 4),
        w=weight(4, 4),
        b=nn.Linear(4, 2),
    ), normal(3)


@model
def buffer_in_place():
    """Buffers written in place at each call: running statistics of the data, and a counter that is read."""

    def forward(m, x):
        m.seen.mul_(0.9).add_(m.a(x).detach().mean(0))
        m.count.add_(1)
        return m.b(torch.tanh(m.a(x))) / m.count

    made = Of(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    made.register_buffer("seen", torch.zeros(4))
    made.register_buffer("count", torch.zeros(()))
    return made, normal(3)


@model
def residual_by_transforms():
    """A residual of a differential equation, its derivatives by `torch.func`."""

    def forward(m, x):
        def u(at):
            return m.net(at)[0]

        return torch.func.vmap(lambda at: torch.func.hessian(u)(at).diagonal().sum() + torch.sin(u(at)))(x)

    return Of(forward, net=nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))), normal(2)


@model
def residual_by_autograd():
    """The same by `torch.autograd.grad`."""

    def forward(m, x):
        x = x.detach().requires_grad_()
        u = m.net(x)
        first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        parts = [torch.autograd.grad(first[:, k].sum(), x, create_graph=True)[0][:, k] for k in range(2)]
        return sum(parts) + torch.sin(u[:, 0])

    return Of(forward, net=nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))), normal(2)


@model
def state_space():
    """A selective scan, as in Mamba: exponentials of parameters, elementwise recurrences."""

    def forward(m, x):
        gate, h = m.into(x).chunk(2, -1)
        h = functional.silu(m.conv(h.mT)[..., : x.shape[1]].mT)
        step = functional.softplus(m.step(h))
        b, c = m.bc(h).chunk(2, -1)
        decay = torch.exp(-torch.exp(m.a_log) * step[..., None])
        state = torch.zeros(x.shape[0], 4, 2, dtype=x.dtype, device=x.device)
        out = []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + (step * h)[:, t, :, None] * b[:, t, None, :]
            out.append((state * c[:, t, None, :]).sum(-1) + m.d * h[:, t])
        return m.out(torch.stack(out, 1) * functional.silu(gate))[:, -1]

    return Of(
        forward, into=nn.Linear(3, 8), conv=nn.Conv1d(4, 4, 3, padding=2, groups=4), step=nn.Linear(4, 4),
        bc=nn.Linear(4, 4, bias=False), a_log=weight(4, 2), d=weight(4), out=nn.Linear(4, 3),
    ), normal(4, 3)  # fmt: skip
