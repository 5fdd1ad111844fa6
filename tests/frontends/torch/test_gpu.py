"""The same uses and kernels on a GPU."""

import copy

import numpy as np
import pytest
import torch

import jacgram
from frontends.torch.models import MODELS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize(
    "name", ["cnn", "lstm", "transformer_encoder", "embeddings", "experts", "residual_by_transforms"]
)
def test_kernel_on_a_gpu(name):
    module, x = MODELS[name](3)
    expected = jacgram.ntk(module, x)
    found = jacgram.ntk(copy.deepcopy(module).cuda(), x.cuda())
    assert found.is_cuda
    np.testing.assert_allclose(found.cpu(), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_full_precision_on_a_gpu():
    """No TF32, whatever the caller has set."""
    found = torch.backends.cuda.matmul.fp32_precision
    module, x = torch.nn.Linear(512, 256).cuda(), torch.randn(8, 512).cuda()
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        kernel = jacgram.ntk(module, x, pattern="n i, m i -> n m")
    finally:
        torch.backends.cuda.matmul.fp32_precision = found
    exact = 256 * (x.double() @ x.double().T + 1)
    assert float((kernel - exact).abs().max() / exact.abs().max()) < 1e-5
