"""Plans from shapes alone: no framework is imported here."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jacgram.core.frontend import Struct
from jacgram.core.patterns import Pattern, full_labels
from jacgram.core.uses import Einsum, Gather, Identity, Use
from jacgram.core.views import View
from jacgram.errors import ArgumentError, BudgetError, UnsupportedError
from jacgram.plan import make
from jacgram.plan.device import TYPICAL, Device
from jacgram.plan.make import make_plan
from jacgram.plan.network import Product
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Materialize, MatrixFree, Structured
from jacgram.plan.task import Pair, SideShapes, Task
from jacgram.plan.wanted import wanted

GIB = 1 << 30


def dense_use(leaf, t, i, k, s):
    activation = Struct((1, t, i), "float32")
    return Use(
        leaf, View.of((i, k)), Einsum(("t", "i"), ("t", "k"), ("i", "k")), activation, Struct((1, s, t, k), "float32")
    )


def rows_use(leaf, shape, s):
    return Use(leaf, View.of(shape), Identity("no rule for fft"), None, Struct((1, s, *shape), "float32"))


def task(n1, n2, o, make_uses, shapes, *, pattern=None, hermitian=False):
    uses = tuple(make_uses)
    out1, out2 = Struct((n1, o), "float32"), Struct((n2, o), "float32")
    labels = (
        full_labels(2, 2, examples=True)
        if pattern is None
        else Pattern.parse(pattern).fit(out1.shape, out2.shape, examples=True)
    )
    want = wanted(labels, out1.shape, out2.shape, examples=True)
    s = want.basis(1).shape[0]
    sides = tuple(SideShapes(n, True, (out,), (s,), uses) for n, out in ((n1, out1), (n2, out2)))
    leaves = tuple((f"layer{k}", Struct(shape, "float32")) for k, shape in enumerate(shapes))
    return Task(sides, (Pair(0, 0, want),), leaves, "float32", hermitian)


def fcn(n, width=1024, **options):
    return task(n, n, 10, [dense_use(0, 1, width, width, 10)], [(width, width)], **options)


def test_wide_layers_of_one_position_take_the_gram_gram_order():
    (leaf,) = make_plan(fcn(32), Structured(), GIB, TYPICAL).leaves[0]
    assert leaf.choice.order == "Gram-Gram"
    assert leaf.kinds == ("Einsum",)


def test_long_sequences_of_narrow_layers_take_rows():
    narrow = task(8, 8, 10, [dense_use(0, 512, 32, 32, 10)], [(32, 32)])
    (leaf,) = make_plan(narrow, Structured(), GIB, TYPICAL).leaves[0]
    assert leaf.choice.order == "rows"


def test_one_tile_where_it_fits():
    plan = make_plan(fcn(32), Auto(), GIB, TYPICAL)
    assert plan.one_tile
    assert plan.method == "structured"


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1 << 21, 1 << 22, 1 << 24, 1 << 26]), st.integers(1, 3))
def test_accepted_plans_keep_their_budget(n1, n2, budget, abreast):
    wide = task(n1, n2, 10, [dense_use(0, 16, 256, 256, 10)], [(256, 256)])
    try:
        plan = make_plan(wide, Structured(), budget, replace(TYPICAL, abreast=abreast))
    except BudgetError as error:
        assert "the smallest needs" in str(error)  # noqa: PT017
        return
    assert plan.peak_bytes <= budget
    assert all(1 <= tile <= n for tile, n in zip(plan.tile, (n1, n2), strict=True))


def test_one_example_too_large_is_cut_along_its_seeds():
    large = task(2, 2, 1000, [dense_use(0, 64, 64, 64, 1000)], [(64, 64)])
    whole = make_plan(large, Structured(), 8 * GIB, TYPICAL)
    assert whole.seed_block == (0, 0)
    plan = make_plan(large, Structured(), 32 << 20, TYPICAL)
    assert plan.tile == (1, 1)
    assert 0 < plan.seed_block[0] < 1000
    assert plan.flops > whole.flops, "factors are made again for each block"


def test_hermitian_tiles_are_square_and_counted_once():
    full = make_plan(fcn(64), Structured(), 4 << 20, TYPICAL)
    half = make_plan(fcn(64, hermitian=True), Structured(), 4 << 20, TYPICAL)
    assert half.tile[0] == half.tile[1] < 64
    assert half.flops < full.flops


def test_one_side_with_itself_is_half_of_two():
    """A sequence model's layer: the product of rows takes its triangle, rows are made once."""
    uses, shapes = [dense_use(0, 32, 128, 512, 10)], [(128, 512)]
    full = make_plan(task(32, 32, 10, uses, shapes), Structured(), GIB, TYPICAL)
    half = make_plan(task(32, 32, 10, uses, shapes, hermitian=True), Structured(), GIB, TYPICAL)
    assert half.panels > 1
    assert half.seconds < 0.7 * full.seconds
    assert "upper triangle in" in str(half)
    assert Plan.from_json(half.to_json()) == half


def test_panels_have_to_pay_and_to_fit():
    """Two panels are taken where they are a tenth faster, not where they are a fiftieth; and where they alone fit."""
    uses, shapes = [dense_use(0, 32, 128, 512, 10)], [(128, 512)]
    plan = make_plan(task(32, 32, 10, uses, shapes, hermitian=True), Structured(), GIB, TYPICAL)
    one, tenth, fiftieth = (replace(plan, panels=p, seconds=s) for p, s in ((1, 1.0), (2, 0.9), (2, 0.98)))
    assert make._worth_its_panels([one, tenth], GIB, 1.05) is tenth
    assert make._worth_its_panels([one, fiftieth], GIB, 1.05) is one
    assert make._worth_its_panels([one, fiftieth], GIB, 1.01) is fiftieth
    large = replace(one, peak_bytes=2 * GIB)
    assert make._worth_its_panels([large, fiftieth], GIB, 1.05) is fiftieth


def test_where_products_run_side_by_side_a_triangle_has_more_panels():
    """Each has a core to itself: it is not cut for the cores, and so loses less by being less wide."""
    uses, shapes = [dense_use(0, 32, 128, 128, 10)], [(128, 128)]
    devices = [replace(TYPICAL, views=False, abreast=abreast) for abreast in (1, 4)]
    plans = [make_plan(task(32, 32, 10, uses, shapes, hermitian=True), Structured(), GIB, device) for device in devices]
    assert plans[1].panels > plans[0].panels
    assert plans[1].flops < plans[0].flops


@pytest.mark.parametrize(("views", "abreast", "many"), [(False, 4, True), (True, 4, False), (False, 1, False)])
def test_pairs_of_blocks_side_by_side_are_worth_it_sooner(views, abreast, many, monkeypatch):
    monkeypatch.setattr(make, "_PANELS_WORTH", 10.0)
    uses, shapes = [dense_use(0, 32, 128, 512, 10)], [(128, 512)]
    device = replace(TYPICAL, views=views, abreast=abreast)
    plan = make_plan(task(32, 32, 10, uses, shapes, hermitian=True), Structured(), GIB, device)
    assert (plan.panels > 1) is many


def test_what_is_dealt_out_to_cores_is_in_the_plan():
    uses, shapes = [dense_use(0, 32, 128, 512, 10)], [(128, 512)]
    plan = make_plan(task(32, 32, 10, uses, shapes), Structured(), GIB, replace(TYPICAL, shares=2))
    assert "2 shares of w" in str(plan)
    assert Plan.from_json(plan.to_json()) == plan


def test_parts_and_loops_over_examples_are_in_the_plan():
    parted = make_plan(layer(32), Structured(), GIB, replace(TYPICAL, abreast=4))
    (leaf,) = parted.leaves[0]
    assert leaf.choice.parts == 4
    assert f"{leaf.choice.slice_label} by {leaf.choice.slice_size}, w0 in 4 parts" in str(parted)
    looped = make_plan(layer(32, i=512, k=128), Structured(), GIB, TYPICAL)
    assert "(((a1 a2) g1) g2)  example by example" in str(looped)
    for plan in (parted, looped):
        assert Plan.from_json(plan.to_json()) == plan


def layer(n, t=32, i=128, k=512):
    return task(n, n, 10, [dense_use(0, t, i, k, 10)], [(i, k)])


def test_fields_that_are_not_written_are_at_their_defaults():
    plan = make_plan(layer(8), Structured(), GIB, TYPICAL)
    assert Plan.from_json(_without(plan, "parted", "parts", "by_example")) == plan
    assert Device.from_json(_without(TYPICAL, "abreast", "views", "compiled")) == TYPICAL


def _without(written, *names):
    def drop(fields):
        return {key: value for key, value in fields.items() if key not in names}

    return json.dumps(json.loads(written.to_json(), object_hook=drop))


def test_thin_sides_slow_a_product_down_one_by_one():
    def seconds(m, n, k):
        return TYPICAL.product_s(Product(1, m, n, k, (m * k, k * n, m * n)), 4, 0.0, 0.0) / (m * n * k)

    assert seconds(16, 1024, 1024) == pytest.approx(seconds(1024, 1024, 16), rel=0.02)
    assert seconds(16, 16, 1024) > 1.5 * seconds(16, 1024, 1024)


def test_what_a_kernel_holds_leaves_its_leaves_less_to_reuse():
    program = replace(TYPICAL, views=False, compiled=True, reused_bytes=2.0**25)
    plans = [
        make_plan(layer(24, i=128, k=256), Structured(), GIB, device)
        for device in (program, replace(program, reused_bytes=math.inf))
    ]
    some, endless = (plan.leaves[0][0].choice for plan in plans)
    assert endless.peak_bytes < 20 * 2**20 < 2**25 < plans[0].peak_bytes, "by itself either would be reused"
    assert some.peak_bytes < endless.peak_bytes, "what it takes beside what is held comes fresh"


def test_a_budget_that_cannot_be_kept():
    with pytest.raises(
        BudgetError, match=r"no plan by .* fits memory=1000 B: the smallest needs \d+ bytes\. Fix: pass"
    ):
        make_plan(fcn(8), Auto(), 1000, TYPICAL)


def test_strict_names_the_leaf_and_the_reason():
    mixed = task(2, 2, 3, [dense_use(0, 1, 4, 4, 3), rows_use(1, (5,), 3)], [(4, 4), (5,)])
    with pytest.raises(UnsupportedError, match=r"layer1: no rule for fft\. Fix: pass Structured\(\)"):
        make_plan(mixed, Structured(strict=True), GIB, TYPICAL)
    plan = make_plan(mixed, Structured(), GIB, TYPICAL)
    assert plan.structured_share == 0.5
    assert plan.notes == ("layer1: no rule for fft",)


def test_methods_asked_for_are_taken():
    assert make_plan(fcn(4), Materialize(), GIB, TYPICAL).method == "materialize"
    plan = make_plan(fcn(4), MatrixFree(block=3), GIB, TYPICAL)
    assert (plan.method, plan.block) == ("matrix-free", 3)


def test_tables_compare_indices():
    index, g = Struct((1, 16), "int32"), Struct((1, 1, 16, 64), "float32")
    use = Use(0, View.of((50_000, 64)), Gather(1), index, g)
    (leaf,) = make_plan(task(8, 8, 1, [use], [(50_000, 64)]), Structured(), GIB, TYPICAL).leaves[0]
    assert leaf.choice.tree is not None
    assert leaf.choice.peak_bytes < 20 << 20


def test_the_device_decides():
    no_arithmetic = Device("slow", products=((1, 1e6), (1024, 1e6)), copies=((1.0, 1e15),), call_s=0.0)
    plan = make_plan(fcn(8, width=64), Structured(), GIB, no_arithmetic)
    best = min(plan.leaves[0], key=lambda leaf: leaf.choice.flops)
    assert plan.leaves[0] == (best,)
    assert plan.seconds == pytest.approx(plan.flops / 1e6, rel=0.01)


def test_json_and_hash():
    plan = make_plan(fcn(8, pattern="n i, m i -> n m"), Auto(), GIB, TYPICAL)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    for text in ("", "{}", "[]", plan.to_json().replace('"jacgram_plan": 1', '"jacgram_plan": 99')):
        with pytest.raises(ArgumentError, match=r"no plan written by Plan\.to_json"):
            Plan.from_json(text)


def test_the_table_names_leaves_orders_and_sources():
    text = str(make_plan(fcn(8), Structured(), GIB, TYPICAL))
    assert "layer0" in text
    assert "Gram-Gram" in text
    assert "Novak" in text
    assert "GFLOP" in text
    matrix_free = str(make_plan(fcn(8), MatrixFree(block=2), GIB, TYPICAL))
    assert "2 rows at a time" in matrix_free


def test_device_figures_travel_as_json():
    assert Device.from_json(TYPICAL.to_json()) == TYPICAL
    assert TYPICAL.copy_s(1e6, 1e6) < TYPICAL.copy_s(1e6, 1e9)
    assert math.isclose(TYPICAL.flops_per_s, TYPICAL.products[-1][1])


def test_planning_imports_no_framework():
    code = "import sys, jacgram.plan.make; assert not {'jax', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tile", [0, 1]), ("tile", "x"), ("tile", None), ("tile", [1]), ("method", "foo"), ("flops", "a"),
        ("seed_block", [1, 0]), ("examples", None), ("seconds", "long"), ("dtype", "int32"), ("hermitian", 1),
        ("notes", [3]), ("condensed", [-1]), ("block", -1), ("shape_key", 7), ("leaves", [3]),
    ],
)  # fmt: skip
def test_a_text_with_values_that_no_plan_has(field, value):
    text = json.dumps(json.loads(make_plan(fcn(4), Structured(), GIB, TYPICAL).to_json()) | {field: value})
    with pytest.raises(
        ArgumentError, match=r"this text is no plan written by Plan\.to_json\(\) .* Fix: make the plan anew"
    ):
        Plan.from_json(text)
