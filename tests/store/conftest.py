import pytest

pytest.importorskip("zarr")
