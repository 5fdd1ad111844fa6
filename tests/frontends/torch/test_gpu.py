"""The same uses and kernels on a GPU."""

import itertools

import numpy as np
import pytest
import torch

import jacgram
from frontends.torch.checks import points, rows_of
from frontends.torch.models import MODELS
from frontends.torch.transformers_zoo import TRANSFORMERS
from kit import oracle

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def on_gpu(x):
    return {key: leaf.cuda() for key, leaf in x.items()} if isinstance(x, dict) else x.cuda()


@pytest.mark.parametrize("name", [*MODELS, *TRANSFORMERS])
def test_kernel_on_a_gpu(name):
    f, module, x1, x2 = points(name)
    rows1, rows2 = rows_of(module, x1, f), rows_of(module, x2, f)
    module = module.cuda()
    # There PyTorch's own weight norm takes norms of doubles in single precision.
    atol = 1e-6 if name == "weight_norm" else 1e-9
    for other, rows in ((None, rows1), (x2, rows2)):
        expected = oracle.gram(rows1, rows)[0]
        found = jacgram.ntk(f, on_gpu(x1), None if other is None else on_gpu(other), params=module)
        assert found.is_cuda
        np.testing.assert_allclose(found.cpu(), expected, rtol=0, atol=atol * np.abs(expected).max())


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


def test_figures_are_of_the_device_that_arrays_are_on():
    """The budget is half of what it has free; a model in host memory is planned for the processor."""
    module, x = torch.nn.Linear(4, 3), torch.randn(5, 4)
    on_host, on_device = (jacgram.plan(module.to(place), x.to(place)) for place in ("cpu", "cuda"))
    assert on_host.seconds != on_device.seconds
    assert on_device.budget_bytes <= torch.cuda.mem_get_info()[1] / 2


def test_memory_stays_within_the_plan():
    sizes = [256, *[512] * 3, 10]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    module, x = torch.nn.Sequential(*layers).cuda(), torch.randn(64, 256).cuda()
    for memory in ("16MiB", "256MiB"):
        plan = jacgram.plan(module, x, memory=memory)
        jacgram.ntk(module, x, plan=plan)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kernel = jacgram.ntk(module, x, plan=plan)
        torch.cuda.synchronize()
        grown = torch.cuda.max_memory_allocated() - before - kernel.nbytes
        assert grown <= 1.1 * plan.peak_bytes <= 1.1 * plan.budget_bytes
