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
