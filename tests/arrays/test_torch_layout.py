"""How tensors become matrices, by how they lie."""

import pytest

from jacgram.arrays.torch_layout import Lying, lean, way


def lying(labels, itemsize=8, **sizes):
    """Axes in this order in memory, one after the other; ``labels`` says first how they lie, then how they are named."""
    memory, names = labels.split(">") if ">" in labels else (labels, labels)
    strides, step = {}, 1
    for label in reversed(memory):
        strides[label] = step
        step *= sizes[label]
    return Lying(names, tuple(sizes[x] for x in names), tuple(strides[x] for x in names), itemsize)


def test_what_lies_as_matrices_is_not_copied():
    found = way(lying("nsw", n=4, s=3, w=50), lying("mtw", m=5, t=2, w=50), "nsmt", loops=True)
    assert found.steps is None
    assert not found.left.copied
    assert not found.right.copied
    assert found.product == (1, 12, 10)
    assert found.shape == (4, 3, 5, 2)


def test_a_transposed_matrix_is_taken_as_it_is():
    found = way(lying("wn>nw", n=4, w=50), lying("mw", m=5, w=50), "nm", loops=True)
    assert not found.left.copied


def test_rows_and_columns_change_places_where_the_result_asks_for_it():
    assert way(lying("nw", n=4, w=50), lying("mw", m=5, w=50), "mn", loops=True).swapped


def test_a_vector_comes_first_whatever_the_result_asks_for():
    matrix, vector = lying("nsw", n=4, s=3, w=50), lying("nxw", n=4, x=1, w=50)
    for given, swapped in (((matrix, vector), True), ((vector, matrix), False)):
        for out in ("nsx", "nxs"):
            found = way(*given, out, loops=True)
            assert found.swapped == swapped
            assert found.product == (4, 1, 3)
    assert not way(vector, lying("nyw", n=4, y=1, w=50), "nxy", loops=True).swapped


def test_no_matrix_product():
    assert way(lying("nw", n=4, w=5), lying("mv", m=5, v=5), "nwmv", loops=True) is None
    assert way(lying("nw", n=4, w=5), lying("mv", m=5, v=5), "nm", loops=True) is None


def test_seeds_in_the_way_are_looped_over_or_copied():
    rows = lying("snw>nsw", s=10, n=420, w=512), lying("tmw>mtw", t=10, m=63, w=512)
    gap = Lying("nsw", (420, 10, 512), (512, 440 * 512, 1), 8)
    assert way(gap, rows[1], "nsmt", loops=True).steps == 10
    copied = way(gap, rows[1], "nsmt", loops=False)
    assert copied.steps is None
    assert copied.left.copied


def test_batch_axes_lie_as_asked_where_a_copy_is_made_in_any_case():
    """A cotangent whose features are cut into shares: the shares come first in the result, as they do in the activation."""
    sizes = {"n": 16, "s": 10, "t": 32, "c": 2, "w": 64, "i": 128}
    found = way(lying("sntcw>nstcw", **sizes), lying("cnti", **sizes), "cnswi", loops=True)
    assert found.left.copied
    assert not found.right.copied
    assert found.order == (0, 1, 2, 3, 4)


def test_batch_axes_lie_as_they_do_where_a_loop_spares_the_copy():
    sizes = {"x": 8, "y": 8, "z": 8, "k": 64, "m": 128, "n": 16}
    found = way(lying("xykzm", itemsize=4, **sizes), lying("xyzkn", itemsize=4, **sizes), "zyxmn", loops=True)
    assert found.steps == 8
    assert not found.left.copied


def test_one_entry_will_do_of_what_is_repeated_along_an_axis_that_the_other_operand_has():
    assert lean("nsw,msw->nms", (5, 3, 2), (6, 2, 1), (4, 3, 2), (4, 0, 1)) == ("nsw,mw->nms", (), (1,))
    assert lean("nsw,msw->nms", (5, 3, 2), (6, 0, 1), (4, 3, 2), (4, 2, 1)) == ("nw,msw->nms", (1,), ())
    assert lean("abcw,abcw->abc", (2, 2, 2, 2), (0, 0, 0, 1), (2, 2, 2, 2), (8, 4, 2, 1)) == (
        "w,abcw->abc",
        (2, 1, 0),
        (),
    )


@pytest.mark.parametrize(
    ("spec", "size", "strides"),
    [
        ("nsw,msw->nms", 3, ((6, 0, 1), (4, 0, 1))),  # repeated in both
        ("nsw,msw->nm", 3, ((6, 2, 1), (4, 0, 1))),  # summed
        ("nsw,msw->nms", 1, ((6, 2, 1), (4, 0, 1))),  # of a single entry
        ("nsw,msw->nms", 0, ((6, 2, 1), (4, 0, 1))),  # of none
    ],
)
def test_other_axes_stay(spec, size, strides):
    assert lean(spec, (5, size, 2), strides[0], (4, size, 2), strides[1]) == (spec, (), ())


@pytest.mark.parametrize(
    ("left", "right", "few_first"),
    [
        (lying("wn>nw", n=160, w=50), lying("mw", m=10, w=50), True),  # many columns as they lie
        (lying("nw", n=160, w=50), lying("mw", m=10, w=50), False),  # rows by rows
        (lying("bnw", b=4, n=160, w=50), lying("bmw", b=4, m=10, w=50), True),  # but for several of them
        (lying("wn>nw", n=160, w=50), lying("mw", m=16, w=50), False),  # no longer few
        (lying("wn>nw", n=8, w=50), lying("mw", m=10, w=50), False),  # fewer rows than columns
    ],
)
def test_few_columns_become_rows(left, right, few_first):
    out = "bnm" if "b" in left.labels else "nm"
    found = way(left, right, out, loops=True)
    assert found.swapped == few_first
    assert found.product[1:] == ((10, 160) if few_first else (left.size("n"), right.size("m")))
    assert not way(left, right, out, loops=False).swapped
