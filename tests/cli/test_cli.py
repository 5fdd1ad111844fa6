"""The command line: its version, its errors, and what it says when an extra is missing."""

import subprocess
import sys

import pytest

import jacgram

pytest.importorskip("typer")
pytest.importorskip("rich")

# Hides packages from a fresh process, as if they had not been installed.
_WITHOUT = """
import importlib.util, sys
hidden, real = {hidden!r}, importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in hidden else real(name, *rest)
from jacgram.cli import main
sys.argv = ["jacgram", *{arguments!r}]
main()
"""


def jacgram_without(hidden, *arguments):
    code = _WITHOUT.format(hidden=hidden, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_version():
    done = jacgram_without((), "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"jacgram {jacgram.__version__}")


def test_no_arguments_shows_help():
    assert "demo" in jacgram_without(()).stdout


@pytest.mark.parametrize(
    ("hidden", "arguments", "line"),
    [
        (("typer",), ["demo"], "jacgram: typer is not installed. Fix: pip install 'jacgram[cli]'."),
        (("typer", "rich"), [], "jacgram: typer and rich are not installed. Fix: pip install 'jacgram[cli]'."),
        (("sklearn",), ["demo"], "jacgram: sklearn is not installed. Fix: pip install 'jacgram[demo]'."),
        (("jax", "optax"), ["demo"], "jacgram: jax and optax are not installed. Fix: pip install 'jacgram[demo]'."),
    ],
)
def test_a_missing_extra_is_one_line(hidden, arguments, line):
    done = jacgram_without(hidden, *arguments)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", line)
