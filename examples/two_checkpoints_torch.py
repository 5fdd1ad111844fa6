"""How training turns a kernel: J(start) J(end)ᵀ between two checkpoints of one network."""

import torch
from torch.func import functional_call

from jacgram import Jacobian

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
x = torch.randn(64, 4)
target = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], dim=1)


def checkpoint():
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def f(params, x):
    return functional_call(model, params, (x,))


start = checkpoint()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(200):
    optimiser.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), target)
    loss.backward()
    optimiser.step()
print(f"loss {loss.item():.4f}")

J0, J1 = (Jacobian(f, x, params=params) for params in (start, checkpoint()))
before, across, after = ((a @ b.T).dense("n i, m i -> n m") for a, b in [(J0, J0), (J0, J1), (J1, J1)])
cosine = (across.diagonal() / (before.diagonal() * after.diagonal()).sqrt()).mean()
print(f"mean cosine between each example's Jacobian before and after: {cosine:.3f}")
assert 0 < cosine < 1
