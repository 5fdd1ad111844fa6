"""What is alive during a kernel is within its plan, whatever the device is like that the plan is for."""

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from torch import nn
from torch.profiler import ProfilerActivity, profile

import jacgram
from jacgram.plan.device import TYPICAL, Device

# With what PyTorch on a CPU has: arrays are laid out anew where views will not do, and plans leave room for it.
TYPICAL_TORCH = replace(TYPICAL, overhead=1.6)

# Fast products and dear calls: orders that hold whole rows, and passes over all examples.
WIDE = Device(
    "like a GPU",
    products=((1, 1e12), (16, 1e13), (256, 4e13)),
    copies=((1e5, 4e12), (1e8, 3e12)),
    call_s=1e-4,
    turns_per_s=1e12,
    reused_bytes=2.0**40,
    pass_bytes=2.0**40,
    overhead=1.6,
)


def dense(width, outputs):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


def convolution(width, outputs):
    layers = nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.Flatten(), nn.Linear(64 * width, outputs))


def sequence(width, outputs):
    return nn.Sequential(
        nn.Unflatten(1, (16, 4)), nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Flatten(), nn.LayerNorm(16 * width),
        nn.Linear(16 * width, outputs),
    )  # fmt: skip


def most_alive(call, path):
    """Bytes of arrays that a call holds at its most, and what it returns."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as taken:
        result = call()
    taken.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    events.sort(key=lambda event: event["ts"])
    before = events[0]["args"]["Total Allocated"] - events[0]["args"]["Bytes"]
    return max(event["args"]["Total Allocated"] for event in events) - before, result


@pytest.mark.parametrize("pattern", [None, "n i, m i -> n m", "n i, m j -> n m"])
@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("figures", [TYPICAL_TORCH, WIDE], ids=["typical", "wide"])
@pytest.mark.parametrize("make", [dense, convolution, sequence])
def test_arrays_alive_are_within_the_plan(make, figures, one_side, pattern, tmp_path):
    torch.manual_seed(0)
    width, outputs, n = (24, 10, 32) if figures is TYPICAL_TORCH else (128, 3, 20)
    module, x1, x2 = make(width, outputs), torch.randn(n, 64), torch.randn(n - 5, 64)
    sides = (x1,) if one_side else (x1, x2)
    plan = jacgram.plan(module, *sides, pattern=pattern, method=jacgram.Structured(device=figures))
    call = lambda: jacgram.ntk(module, *sides, pattern=pattern, plan=plan)
    call()
    alive, kernel = most_alive(call, tmp_path / "trace.json")
    assert alive - kernel.nbytes <= plan.peak_bytes


@pytest.mark.parametrize("memory", ["6MiB", "16MiB", "128MiB"])
@pytest.mark.parametrize("make", [dense, convolution])
def test_passes_for_both_sides_are_within_the_budget(make, memory, tmp_path):
    torch.manual_seed(0)
    module, x1, x2 = make(24, 10), torch.randn(32, 64), torch.randn(27, 64)
    plan = jacgram.plan(module, x1, x2, memory=memory, method=jacgram.Structured(device=WIDE))
    call = lambda: jacgram.ntk(module, x1, x2, plan=plan)
    call()
    alive, kernel = most_alive(call, tmp_path / "trace.json")
    assert alive - kernel.nbytes <= plan.peak_bytes <= plan.budget_bytes
    if memory == "128MiB":
        assert plan.joined


def test_a_plan_for_sides_in_one_pass_serves_sides_that_are_not():
    module, x1, x2 = convolution(8, 3), torch.randn(6, 64), torch.randn(5, 64)
    others = {name: 2 * p.detach() for name, p in module.named_parameters()}
    J1, J2, J3 = (jacgram.Jacobian(module, x, params=p) for x, p in ((x1, None), (x2, None), (x2, others)))
    plan = (J1 @ J2.T).plan(method=jacgram.Structured(device=WIDE))
    assert plan.joined and plan.condensed
    expected = (J1 @ J3.T).dense(method=jacgram.Materialize())
    torch.testing.assert_close(
        (J1 @ J3.T).dense(plan=plan), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )
