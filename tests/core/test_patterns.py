import pytest

from jacgram.core.patterns import Labels, Pattern, full_labels
from jacgram.errors import PatternError


@pytest.mark.parametrize(
    ("text", "shape1", "shape2", "labels"),
    [
        ("n i, m j -> n m i j", (3, 4), (2, 5), (("n", "i"), ("m", "j"), ("n", "m", "i", "j"))),
        ("n i,m i->n m", (3, 4), (2, 4), (("n", "i"), ("m", "i"), ("n", "m"))),
        ("n ..., m ... -> n m", (3, 4, 5), (2, 4, 5), (("n", "...0", "...1"), ("m", "...0", "...1"), ("n", "m"))),
        ("n ... i, m j -> n ...", (3, 4, 5), (2, 4), (("n", "...0", "i"), ("m", "j"), ("n", "...0"))),
        ("n..., n... -> n...", (3,), (3,), (("n",), ("n",), ("n",))),
    ],
)
def test_fit(text, shape1, shape2, labels):
    assert Pattern.parse(text).fit(shape1, shape2, examples=True) == Labels(*labels)


def test_parsing_is_cached():
    assert Pattern.parse("n i, m i -> n m") is Pattern.parse("n i, m i -> n m")


def test_kept_axes_are_those_the_result_or_the_other_side_needs():
    labels = Pattern.parse("n i j k, m i l q -> n m j l").fit((2,) * 4, (2,) * 4, examples=True)
    assert labels.kept(1) == ("n", "i", "j")
    assert labels.kept(2) == ("m", "i", "l")
    assert labels.shared == ("i",)


def test_without_examples_any_axis_may_be_shared():
    labels = Pattern.parse("i j, k i -> k j").fit((2, 3), (4, 2), examples=False)
    assert labels.shared == ("i",)


def test_everything():
    assert full_labels(2, 2, examples=True).out == ("l0", "r0", "l1", "r1")
    assert full_labels(2, 1, examples=False).out == ("l0", "l1", "r0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n i m j", "must read 'side 1, side 2 -> result'"),
        ("n i, m j, k l -> n", "must read 'side 1, side 2 -> result'"),
        ("n i, m j -> n -> m", "must read 'side 1, side 2 -> result'"),
        ("n i i, m j -> n m", "repeats 'i' in side 1"),
        ("n i, m j -> n m n", "repeats 'n' in the result"),
        ("n ... ..., m j -> n m", r"repeats '\.\.\.' in side 1"),
        ("n i, m j -> n k", "asks for axis 'k', which is on neither side"),
        ("n 2, m j -> n", "has '2', which is no axis name"),
        (3, "pattern must be a str or None, got int 3"),
    ],
)
def test_unreadable(text, message):
    with pytest.raises(PatternError, match=message):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n, m j -> n m", "side 1 names 1 axes of an output with 2; y has shapes"),
        ("n i, m j k -> n m", "side 2 names 3 axes of an output with 2"),
        ("n i, m i -> n m", "axis 'i' is on both sides with different sizes, 4 and 5"),
        ("n i, n j -> n", "axis 'n' is on both sides with different sizes, 3 and 2"),
        ("n ..., m ... j -> n m", "stands for different numbers of axes"),
    ],
)
def test_misfits(text, message):
    with pytest.raises(PatternError, match=message):
        Pattern.parse(text).fit((3, 4), (2, 5), examples=True)


def test_examples_of_one_side_are_no_output_axis_of_the_other():
    with pytest.raises(PatternError, match="names the examples of one side and an output axis of the other"):
        Pattern.parse("n i, i m -> n m").fit((2, 4), (4, 3), examples=True)
