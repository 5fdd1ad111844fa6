"""Peak memory beside `torch.func`'s Jacobian contraction, each in a process of its own."""

import subprocess
import sys

import pytest

MODEL = """
import torch, jacgram
from jacgram.execute.memory import peak_bytes
from torch import nn

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(512, 8, dim_feedforward=2048, batch_first=True, norm_first=True)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(512, 10)
    def forward(self, x):
        return self.head(self.encoder(x).mean(1))
model, x1, x2 = Model().eval(), torch.randn(4, 64, 512), torch.randn(4, 64, 512)
model(x1[:1])
before = peak_bytes()
"""
OURS = 'jacgram.ntk(model, x1, x2, memory="640MiB")'
THEIRS = """
torch.backends.mha.set_fastpath_enabled(False)
params = {name: p.detach() for name, p in model.named_parameters()}
def rows(x):
    one = torch.func.jacrev(lambda p, x: torch.func.functional_call(model, p, (x[None],))[0])
    return torch.func.vmap(one, (None, 0))(params, x)
J1, J2 = rows(x1), rows(x2)
sum(torch.einsum("nip,mjp->nmij", J1[name].flatten(2), J2[name].flatten(2)) for name in params)
"""


def growth_bytes(code):
    script = f"{MODEL}\n{code}\nprint(peak_bytes() - before)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.slow
def test_a_transformers_kernel_takes_a_fifth_of_the_memory():
    """Width 512, 4 layers, 64 tokens, 10 outputs, 4 × 4 examples; the other side holds two Jacobians."""
    ours, theirs = growth_bytes(OURS), growth_bytes(THEIRS)
    assert ours < theirs / 5, (ours / 2**20, theirs / 2**20)
