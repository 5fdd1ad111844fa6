"""Stored kernels, on every kind of store: what is written is read, and what is damaged is told."""

import errno
import json
import pickle
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from jacgram.errors import StoreError, StructureError
from jacgram.store.header import Header
from jacgram.store.kernel_store import KernelStore
from jacgram.store.manifest import Entry
from jacgram.store.settling import Settler

HEADER = Header(
    kernel_id="one",
    pattern=None,
    left=("n", "i"),
    right=("m", "j"),
    out=("n", "m", "i", "j"),
    shape=(5, 5, 2, 2),
    dtype="float32",
    examples=(5, 5),
    tile=(2, 2),
    mirror=(1, 0, 3, 2),
    conjugate=True,
    plan="{}",
    fingerprint={"f": "0"},
    versions={"jacgram": "0"},
)


@pytest.fixture(params=["path", "url", "local store", "memory store"])
def place(request, tmp_path):
    match request.param:
        case "path":
            yield tmp_path / "kernel.zarr"
        case "url":
            pytest.importorskip("fsspec")
            yield f"memory://{tmp_path.name}"
        case "local store":
            yield LocalStore(tmp_path / "kernel.zarr")
        case "memory store":
            yield MemoryStore()


def block(seed=0, shape=(2, 2, 2, 2)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def store(kernel, tile, values, settle=True):
    n_bytes = kernel.write(tile, values)
    entry = Entry(tile, kernel.header.kernel_id, kernel.checksum(values), 1.0, 0.5, n_bytes, 1, "here")
    kernel.record(entry)
    if settle:
        kernel.settle(entry)
    return n_bytes


def test_what_is_written_is_read(place):
    assert KernelStore.find(place, read_only=True) is None
    kernel = KernelStore.create(place, HEADER)
    values = block()
    assert store(kernel, (0, 1), values) == 2 * values.nbytes
    found = KernelStore.find(place, read_only=True)
    assert found.header == HEADER
    assert found.done() == [(0, 1)] and found.damaged() == {}
    assert (found.read((0, 1)) == values).all()
    assert (found.read((1, 0)) == values.transpose(1, 0, 3, 2)).all(), "the mirror image"


def test_any_reader_sees_the_array(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    store(kernel, (0, 0), block())
    array = zarr.open_array(tmp_path / "k.zarr", mode="r")
    assert array.metadata.dimension_names == ("n", "m", "i", "j")
    assert (array[:2, :2] == block()).all() and np.isnan(array[2:]).all(), "unwritten entries are NaN"


def test_a_chunk_without_an_entry_is_not_done(place):
    kernel = KernelStore.create(place, HEADER)
    kernel.write((0, 0), block())
    assert kernel.done() == []


def test_a_tile_that_was_not_settled_is_done_if_its_numbers_are_right(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    for tile in ((0, 0), (0, 1), (0, 2), (1, 1)):
        store(kernel, tile, block(shape=(2, 1, 2, 2) if tile == (0, 2) else (2, 2, 2, 2)), settle=False)
    (tmp_path / "k.zarr/c.0.0.0.0").write_bytes(b"")  # as the power went
    (tmp_path / "k.zarr/c.2.0.0.0").unlink()
    assert kernel.done() == [(0, 1), (1, 1)] and kernel.damaged() == {}, "what was never promised is not damaged"
    kernel.settle_all()
    assert kernel.done() == sorted(kernel.manifest.tiles()) == [(0, 1), (1, 1)]
    assert all(kernel.manifest.entry(tile).durable for tile in kernel.done())


def test_settling_in_the_background(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    settler = Settler(kernel)
    for k in range(3):
        store(kernel, (k, k), block(shape=(1, 1, 2, 2) if k == 2 else (2, 2, 2, 2)), settle=False)
        settler.add(kernel.manifest.entry((k, k)))
    settler.close()
    settler.close()
    assert [kernel.manifest.entry((k, k)).durable for k in range(3)] == [True] * 3


def test_what_goes_wrong_in_the_background_is_told(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    store(kernel, (0, 0), block(), settle=False)
    (tmp_path / "k.zarr/c.0.0.0.0").unlink()
    settler = Settler(kernel)
    settler.add(kernel.manifest.entry((0, 0)))
    with pytest.raises(StoreError, match=r"cannot record tile \(0, 0\)"):
        settler.close()
    assert not kernel.manifest.entry((0, 0)).durable


def test_nan_is_a_result(place):
    kernel = KernelStore.create(place, HEADER)
    store(kernel, (0, 0), np.full((2, 2, 2, 2), np.nan, np.float32))
    assert kernel.done() == [(0, 0)] and kernel.damaged() == {}


def test_clearing_removes_the_kernel_alone(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    store(kernel, (0, 1), block())
    (tmp_path / "k.zarr" / "notes.txt").write_text("mine")
    kernel.clear()
    left = [path.name for path in (tmp_path / "k.zarr").rglob("*") if path.is_file()]
    assert left == ["notes.txt"]


def test_a_cleared_place_is_free_again(place):
    store(KernelStore.create(place, HEADER), (0, 0), block())
    KernelStore.find(place, read_only=False).clear()
    assert KernelStore.find(place, read_only=False) is None
    again = KernelStore.create(place, replace(HEADER, kernel_id="two"))
    assert again.done() == []


def test_entries_of_another_kernel_do_not_count(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    store(kernel, (0, 0), block())
    other = replace(kernel, header=replace(HEADER, kernel_id="two"))
    assert other.done() == []


def test_it_can_be_pickled_and_shared(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    store(pickle.loads(pickle.dumps(kernel)), (0, 0), block())
    assert kernel.done() == [(0, 0)] and kernel.is_shared
    assert not KernelStore.create(MemoryStore(), HEADER).is_shared
    assert not KernelStore.create("memory://alone", HEADER).is_shared


# What is not ours -----------------------------------------------------------------------------------------------------


def test_a_folder_with_other_things(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"not empty and holds no kernel .*thesis.tex"):
        KernelStore.find(tmp_path, read_only=False)


def test_another_zarr_array(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(3,), dtype="f4")
    with pytest.raises(StoreError, match="a Zarr array that is no kernel of jacgram"):
        KernelStore.find(tmp_path / "a.zarr", read_only=False)


def test_a_zarr_group(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match="holds no kernel that can be read"):
        KernelStore.find(tmp_path / "a.zarr", read_only=False)


def test_a_file(tmp_path):
    (tmp_path / "k.zarr").write_text("")
    with pytest.raises(StoreError, match="is a file, not a Zarr store"):
        KernelStore.find(tmp_path / "k.zarr", read_only=False)


def test_a_later_format(tmp_path):
    KernelStore.create(tmp_path / "k.zarr", HEADER)
    change(tmp_path / "k.zarr/zarr.json", lambda found: found["attributes"]["jacgram"].update(format=99))
    with pytest.raises(StoreError, match="in format 99, and this version reads format 1"):
        KernelStore.find(tmp_path / "k.zarr", read_only=True)


def test_attributes_that_were_changed(tmp_path):
    KernelStore.create(tmp_path / "k.zarr", HEADER)
    change(tmp_path / "k.zarr/zarr.json", lambda found: found["attributes"]["jacgram"].update(tile=[3, 3]))
    with pytest.raises(StoreError, match="disagree"):
        KernelStore.find(tmp_path / "k.zarr", read_only=True)
    change(tmp_path / "k.zarr/zarr.json", lambda found: found["attributes"]["jacgram"].pop("plan"))
    with pytest.raises(StoreError, match=r"without \['plan'\]"):
        KernelStore.find(tmp_path / "k.zarr", read_only=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("examples", None),
        ("tile", []),
        ("tile", {}),
        ("shape", [1]),
        ("fingerprint", None),
        ("left", [1]),
        ("conjugate", "no"),
        ("versions", {"jax": 1}),
    ],
)
def test_attributes_of_other_types(tmp_path, name, value):
    KernelStore.create(tmp_path / "k.zarr", HEADER)
    change(tmp_path / "k.zarr/zarr.json", lambda found: found["attributes"]["jacgram"].update({name: value}))
    with pytest.raises(StoreError, match=f"k.zarr holds a kernel whose {name}.* was changed or damaged. Fix: write it"):
        KernelStore.find(tmp_path / "k.zarr", read_only=True)


def change(path, edit):
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def test_no_store_at_all():
    with pytest.raises(StructureError, match="store is int 3, expected a path"):
        KernelStore.find(3, read_only=True)


# What is damaged ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path):
    kernel = KernelStore.create(tmp_path / "k.zarr", HEADER)
    for k, tile in enumerate([(0, 0), (0, 1), (1, 1)]):
        store(kernel, tile, block(k))
    return kernel


def test_damaged_metadata(kernel, tmp_path):
    (tmp_path / "k.zarr/zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"its zarr\.json is damaged"):
        KernelStore.find(tmp_path / "k.zarr", read_only=True)


@pytest.mark.parametrize("cut", [0, 3, 40])
def test_a_chunk_cut_short(kernel, tmp_path, cut):
    path = tmp_path / "k.zarr" / kernel.chunk_name((0, 1))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreError, match=r"chunk c\.0\.1\.0\.0 of .* \(tile \(0, 1\)\) is damaged"):
        kernel.read((0, 1))
    assert list(kernel.damaged()) == [(0, 1)]


def test_a_flipped_bit(kernel, tmp_path):
    path = tmp_path / "k.zarr" / kernel.chunk_name((1, 0))
    data = bytearray(path.read_bytes())
    data[5] ^= 4
    path.write_bytes(data)
    assert list(kernel.damaged()) == [(0, 1)], "the tile whose mirror image it is"
    with pytest.raises(StoreError, match="checksum"):
        kernel.read((1, 0))


def test_a_chunk_in_the_place_of_another(kernel, tmp_path):
    shutil.copy(tmp_path / "k.zarr/c.0.0.0.0", tmp_path / "k.zarr/c.1.1.0.0")
    assert "its numbers are not those that were written" in kernel.damaged()[1, 1]


def test_a_missing_chunk(kernel, tmp_path):
    (tmp_path / "k.zarr/c.1.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"chunk c\.1\.0\.0\.0 .*the file is missing.*verify=True"):
        kernel.done()
    assert list(kernel.damaged()) == [(0, 1)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tile": [0, 1]}', "\x80"])
def test_a_damaged_entry(kernel, tmp_path, text):
    (tmp_path / "k.zarr/manifest/0.1.json").write_text(text, "latin1")
    with pytest.raises(StoreError, match=r"manifest entry manifest/0\.1\.json of .* is damaged .*verify=True"):
        kernel.done()
    assert list(kernel.damaged()) == [(0, 1)]


def test_an_entry_of_another_tile(kernel, tmp_path):
    shutil.copy(tmp_path / "k.zarr/manifest/0.0.json", tmp_path / "k.zarr/manifest/0.1.json")
    with pytest.raises(StoreError, match=r"is that of tile \(0, 0\)"):
        kernel.done()


def test_other_files_in_the_manifest_are_passed_over(kernel, tmp_path):
    for name in ("0.1.json.abc.partial", "notes", "a.b.json", "7.7.json"):
        (tmp_path / "k.zarr/manifest" / name).write_text("{")
    assert kernel.done() == [(0, 0), (0, 1), (1, 1)] and kernel.damaged() == {}


# What cannot be written -----------------------------------------------------------------------------------------------


class FullStore(LocalStore):
    """A disk that is full after a few writes."""

    room = 3

    async def set(self, key, value):
        type(self).room -= 1
        if type(self).room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        await super().set(key, value)


def test_a_full_store(tmp_path, monkeypatch):
    monkeypatch.setattr(FullStore, "room", 3)
    kernel = KernelStore.create(FullStore(tmp_path / "k.zarr"), HEADER)
    store(kernel, (0, 0), block())
    with pytest.raises(StoreError, match=r"cannot write tile \(0, 1\) .*disk is full.*Fix: free some space"):
        store(kernel, (0, 1), block())
    assert KernelStore.find(tmp_path / "k.zarr", read_only=True).done() == [(0, 0)]


def test_a_full_disk(tmp_path):
    """On a file system of its own, really full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        header = replace(HEADER, shape=(200, 200), left=("n",), right=("m",), out=("n", "m"), mirror=None)
        kernel = KernelStore.create(disk / "k.zarr", replace(header, examples=(200, 200), tile=(80, 80)))
        values = np.ones((80, 80), np.float32)
        store(kernel, (0, 0), values)
        store(kernel, (0, 1), values)
        with pytest.raises(StoreError, match="disk is full"):
            store(kernel, (1, 0), values)
        found = KernelStore.find(disk / "k.zarr", read_only=True)
        assert found.done() == [(0, 0), (0, 1)] and found.damaged() == {}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_unwritable_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write to .*file/k\.zarr"):
        KernelStore.create(tmp_path / "file/k.zarr", HEADER)


def test_a_read_only_store(tmp_path):
    KernelStore.create(tmp_path / "k.zarr", HEADER)
    with pytest.raises(StoreError, match="was opened read-only"):
        KernelStore.find(LocalStore(tmp_path / "k.zarr", read_only=True), read_only=False)
