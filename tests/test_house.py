"""Direction of imports, weight of import, the public surface: habits of the house as small tests."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jacgram

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
# A module imports only from layers before its own. "jacgram" itself stands for the package's __init__.
LAYERS = (
    "errors",
    "core",
    "plan",
    "arrays",
    "frontends",
    "contract",
    "store",
    "execute",
    "operator",
    "report",
    "api",
    "",
    "demo",
    "cli",
)
# Inside these layers the parts named here know nothing of each other.
SIBLINGS = {"arrays": ("jax", "torch"), "frontends": ("jax", "torch")}
FRAMEWORKS = ("jax", "jaxlib", "equinox", "torch")
# Opened by the layers that need them, and by nothing on the way to `import jacgram`.
HEAVY = ("jax", "torch", "equinox", "dask", "distributed", "zarr", "fsspec", "matplotlib", "scipy", "typer", "rich")


def modules():
    """Dotted name and file of every module of the package."""
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(name, *, when_loaded=False):
    """Every module that this one imports, wherever in the file; or only those its own loading needs."""
    tree = ast.parse(MODULES[name].read_text())
    found = set()
    for node in tree.body if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute, so that their layer shows"
            found |= {_target(node.module, alias.name) for alias in node.names}
    return found


def _target(module, attribute):
    full = f"{module}.{attribute}"
    return full if full in MODULES else module


def ours(name, *, when_loaded=False):
    return {target for target in imports(name, when_loaded=when_loaded) if target.split(".")[0] == "jacgram"}


def layer(module):
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name):
    assert layer(name) in LAYERS, f"{name} belongs to no layer; the layers are {LAYERS}"
    for target in ours(name):
        assert target in MODULES, f"{name} imports {target}, which is not there"
        assert LAYERS.index(layer(target)) <= LAYERS.index(layer(name)), f"{name} imports {target}, from a layer above"


@pytest.mark.parametrize("name", MODULES)
def test_siblings_do_not_know_each_other(name):
    own = name.split(".")
    for target in ours(name):
        other = target.split(".")
        parts = SIBLINGS.get(layer(name), ())
        if len(own) > 2 and len(other) > 2 and own[1] == other[1] and own[2] in parts and other[2] in parts:
            assert own[2] == other[2], f"{name} imports its sibling {target}"
    if layer(name) not in ("cli", "demo"):
        assert not any(layer(target) == "demo" for target in ours(name)), f"{name} imports the demo"


def test_no_cycles():
    graph = {name: ours(name, when_loaded=True) - {name} for name in MODULES}
    while leaves := [name for name, targets in graph.items() if not targets]:
        graph = {name: targets - set(leaves) for name, targets in graph.items() if name not in leaves}
    assert not graph, f"these modules import in a circle: {sorted(graph)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_framework_is_imported_only_by_its_own_files(name):
    parts = name.split(".")
    for target in imports(name):
        top = target.split(".")[0]
        if top in FRAMEWORKS and layer(name) not in ("demo", "cli"):
            family = "torch" if top == "torch" else "jax"
            own = any(part == family or part.startswith(f"{family}_") for part in parts)
            assert own, f"{name} imports {top}; only the {family} frontend and array adapter may"


@pytest.mark.parametrize("name", MODULES)
def test_private_names_of_frameworks_stay_in_compat(name):
    if MODULES[name].name == "compat.py":
        return
    code = MODULES[name].read_text()
    assert not re.findall(r"\b(?:jax|jaxlib|torch|equinox)(?:\.\w+)*\._(?!_)\w+", code)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FRAMEWORKS:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            assert not [part for part in names if part.startswith("_")]


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_readable(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= 400, f"{name} is long: one concept per file"
    assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring saying its one idea"


def test_import_is_light():
    code = f"import sys, jacgram; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_surface_is_sorted_and_complete():
    public = [name for name in vars(jacgram) if not name.startswith("_")]
    submodules = {name.split(".")[1] for name in MODULES if name.count(".") >= 1}
    assert list(jacgram.__all__) == sorted(jacgram.__all__)
    assert set(public) - submodules <= set(jacgram.__all__), "a public name is missing from __all__"
    assert all(hasattr(jacgram, name) for name in jacgram.__all__)


@pytest.mark.parametrize("name", [name for name in getattr(jacgram, "__all__", ()) if not name.startswith("_")])
def test_surface_is_documented(name):
    value = getattr(jacgram, name)
    doc = value.__doc__ or ""
    assert doc.strip(), f"jacgram.{name} has no docstring"
    if not (isinstance(value, type) and issubclass(value, BaseException)):
        assert ">>>" in doc, f"jacgram.{name} has no example"


def test_version_is_the_package_s():
    assert jacgram.__version__ == importlib.metadata.version("jacgram")


def test_every_dependency_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text()
    bounds = [line for line in text.splitlines() if re.match(r'\s*"[\w.\[\]-]+ *>=', line)]
    assert bounds
    assert not [line for line in bounds if "#" not in line]


def test_all_holds_every_optional_feature():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [line] = extras["all"]
    assert set(re.findall(r"\w+", line)) - {"jacgram"} == set(extras) - {"all", "test", "bench", "docs"}


def test_tests_are_collected_where_the_source_is():
    """Every folder of the package has its folder of tests."""
    folders = {path.name for path in (SRC / "jacgram").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert not {name for name in folders if not any((ROOT / "tests" / name).rglob("test_*.py"))}
