import pytest

from jacgram.core.optional import installed, require
from jacgram.errors import MissingDependencyError


def test_what_is_installed_is_found_without_importing_it():
    assert installed("numpy")
    assert not installed("a_package_that_is_not_there")
    require("jax", "numpy")


def test_the_error_holds_the_install_line():
    with pytest.raises(MissingDependencyError, match=r"nowhere is not installed. Fix: pip install 'jacgram\[plot\]'"):
        require("plot", "numpy", "nowhere")
    with pytest.raises(ImportError, match="here and there are not installed"):
        require("plot", "here", "there")
