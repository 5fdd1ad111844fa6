"""Memory of this process."""

from jacgram.execute.memory import give_back, peak_bytes, peak_of_family


def test_peaks_are_in_bytes():
    for measured in (peak_bytes(), peak_of_family()):
        assert 10 << 20 < measured < 1 << 40


def test_giving_back_is_harmless():
    give_back()
