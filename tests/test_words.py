"""Words that run: every Python fence of README and docs, every docstring example, every link."""

import contextlib
import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "src").rglob("*.py")
)
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What a fence may be: Python that runs here, or something that is not run.
_LANGUAGES = {"python", "sh", "text", "toml", "bibtex", "math"}


def _relative(path):
    return str(path.relative_to(ROOT))


@contextlib.contextmanager
def as_a_user_has_it():
    """JAX in its default precision, as in a program that says nothing about it."""
    if importlib.util.find_spec("jax") is None:
        yield
        return
    import jax

    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else _enable_x64(False):
        yield


def _enable_x64(on):
    from jax.experimental import enable_x64  # where it was before JAX 0.8

    return enable_x64(on)


def fences(path):
    """Language and code of each fence of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def _skip_without(code):
    for name in ("jax", "torch", "equinox", "zarr", "dask", "scipy"):
        if re.search(rf"^\s*(?:>>> )?(?:import|from) {name}\b", code, flags=re.MULTILINE):
            pytest.importorskip(name)
    if "write_ntk" in code:
        pytest.importorskip("zarr")


@pytest.mark.parametrize("path", PAGES, ids=_relative)
def test_fences_run(path, tmp_path, monkeypatch):
    """A fence that begins with an import stands alone; others go on from the one before."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with as_a_user_has_it():
        for language, code in fences(path):
            assert language in _LANGUAGES, f"a fence of {path.name} says {language!r}; say one of {sorted(_LANGUAGES)}"
            if language == "python":
                _skip_without(code)
                namespace = {"__name__": "__page__"} if code.startswith(("import ", "from ")) else namespace
                exec(compile(code, f"{path.name}", "exec"), namespace)


@pytest.mark.parametrize("path", PAGES, ids=_relative)
def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


@pytest.mark.parametrize("path", EXAMPLES, ids=_relative)
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = path.read_text()
    _skip_without(code)
    with as_a_user_has_it():
        exec(compile(code, str(path), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs an optional package: {error}")
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    with as_a_user_has_it():
        for test in tests:
            _skip_without("\n".join(example.source for example in test.examples))
            report = []
            doctest.DocTestRunner(optionflags=_OPTIONS).run(test, out=report.append)
            assert not report, "".join(report)


def test_nothing_is_left_for_later():
    marks = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
    files = [p for folder in ("src", "tests", "examples", "docs") for p in (ROOT / folder).rglob("*") if p.is_file()]
    assert not [p for p in files if p.suffix in (".py", ".md") and marks.search(p.read_text())]


def test_architecture_names_every_layer():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    package = ROOT / "src" / "jacgram"
    names = [p.name + "/" for p in package.iterdir() if any(p.glob("*.py"))] + [p.name for p in package.glob("*.py")]
    assert not [name for name in names if name not in page]


def test_readme_shows_what_its_code_computes():
    found = fences(ROOT / "README.md")
    shown = re.findall(r"\d\.\d+e-\d+", next(code for language, code in found if language == "text"))
    programs = [code for language, code in found if language == "python"][:2]
    assert ["jax" in code for code in programs] == [True, False]
    for code in programs:
        _skip_without(code)
        namespace = {}
        with as_a_user_has_it():
            exec(compile(code, "README.md", "exec"), namespace)
        product = np.asarray(namespace["K"].dense())
        expected = np.array(shown, dtype=float).reshape(5, 5)
        np.testing.assert_allclose(product, expected, rtol=0, atol=2e-6 * expected.max())
