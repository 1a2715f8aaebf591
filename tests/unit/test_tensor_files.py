"""Tensor files: read safely, and written whole or not at all."""

import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ssr_core import tensor_files
from ssr_core.tensor_files import read, read_metadata, write, written_whole

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(3, dtype=torch.bfloat16), "none": torch.zeros(0, 4)}


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_what_is_written_is_read_again(tmp_path):
    write(TENSORS, tmp_path / "a.safetensors", {"made_by": "somebody"})
    tensors, metadata = read(tmp_path / "a.safetensors")
    assert_same(tensors, TENSORS)
    assert metadata == read_metadata(tmp_path / "a.safetensors") == {"made_by": "somebody"}
    assert listing(tmp_path) == ["a.safetensors"]


def test_tensors_that_share_memory_or_lie_crosswise_are_written_too(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"whole": whole, "again": whole, "part": whole[1], "crosswise": whole.T}
    write(tensors, tmp_path / "a.safetensors")
    assert_same(read(tmp_path / "a.safetensors")[0], tensors)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_of_tensors_is_read_and_says_nothing_about_itself(tmp_path, old_format):
    torch.save(TENSORS, tmp_path / "a.bin", _use_new_zipfile_serialization=not old_format)
    assert_same(read(tmp_path / "a.bin")[0], TENSORS)
    assert read(tmp_path / "a.bin")[1] == read_metadata(tmp_path / "a.bin") == {}


@pytest.mark.filterwarnings("ignore")
def test_a_pickle_that_would_run_something_runs_nothing(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / "a.bin").write_bytes(pickle.dumps({"weight": Harmful()}))
    with pytest.raises(ValueError, match=r"a\.bin cannot be read"):
        read(tmp_path / "a.bin")
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), {"step": 3}, {0: torch.zeros(2)}, None], ids=repr)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt holds .*; expected a dictionary of named tensors"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("reader", [read, read_metadata])
def test_errors_name_the_file_and_what_to_do(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.safetensors\. Check the name, or ask somebody\."):
        reader(tmp_path / "a.safetensors", "ask somebody")
    (tmp_path / "a.safetensors").write_bytes(b"<html>Sign in</html>")
    with pytest.raises(ValueError, match=r"a\.safetensors cannot be read: it is .* \(SafetensorError: .*; ask somebody\."):
        reader(tmp_path / "a.safetensors", "ask somebody")


def test_metadata_alone_is_read_from_a_file_whose_tensors_nobody_asked_for(tmp_path, monkeypatch):
    write(TENSORS, tmp_path / "a.safetensors", {"format": "x"})

    class Watched:
        def __init__(self, *args, **options):
            self.file = safe_open(*args, **options)

        def __enter__(self):
            return self.file.__enter__() and self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def metadata(self):
            return self.file.metadata()

    monkeypatch.setattr(tensor_files, "safe_open", Watched)
    assert read_metadata(tmp_path / "a.safetensors") == {"format": "x"}


def fails_halfway(tensors, path, metadata=None):
    with open(path, "wb") as file:
        file.write(b"half a file")
    raise OSError("No space left on device")


@pytest.mark.parametrize("there", [False, True])
def test_a_failing_write_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, there):
    path = tmp_path / "a.safetensors"
    if there:
        write(TENSORS, path)
    monkeypatch.setattr(tensor_files, "save_file", fails_halfway)
    with pytest.raises(OSError, match="No space left"):
        write({"other": torch.zeros(1)}, path)
    assert listing(tmp_path) == ["a.safetensors"] * there
    if there:
        assert_same(read(path)[0], TENSORS)


def test_while_a_file_is_written_its_name_shows_the_old_one(tmp_path):
    path = tmp_path / "a.safetensors"
    write(TENSORS, path)
    with written_whole(path) as part:
        save_file({"other": torch.ones(2)}, part)
        assert part.parent == path.parent
        assert part.suffix not in (".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt"), "no loader may list it"
        assert_same(read(path)[0], TENSORS)
    assert_same(read(path)[0], {"other": torch.ones(2)})


def test_two_writers_of_one_name_do_not_mix(tmp_path):
    path = tmp_path / "a.safetensors"
    with written_whole(path) as first, written_whole(path) as second:
        assert first != second
        save_file({"first": torch.ones(2)}, first)
        save_file({"second": torch.ones(2)}, second)
    assert_same(read(path)[0], {"first": torch.ones(2)})
    assert listing(tmp_path) == ["a.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as on POSIX")
def test_a_written_file_may_be_read_by_whom_new_files_may(tmp_path):
    before = os.umask(0o027)
    try:
        write(TENSORS, tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as on POSIX")
def test_a_link_is_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    write({"old": torch.zeros(1)}, tmp_path / "disk" / "a.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "disk" / "a.safetensors")
    write(TENSORS, tmp_path / "link.safetensors")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert_same(read(tmp_path / "disk" / "a.safetensors")[0], TENSORS)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(TENSORS, tmp_path / "nowhere" / "a.safetensors")


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_a_new_file_takes_no_name_that_is_taken(tmp_path, monkeypatch, links, there):
    if not links:
        monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError("not supported")))
    path = tmp_path / "a.safetensors"
    write(TENSORS, path, new=True)
    assert_same(read(path)[0], TENSORS)
    if there == "dangling link":
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        write({"other": torch.zeros(1)}, path, new=True)
    assert listing(tmp_path) == ["a.safetensors"]


def test_of_many_writers_of_one_new_name_exactly_one_has_it(tmp_path):
    def attempt(number):
        try:
            write({"number": torch.tensor([float(number)])}, tmp_path / "a.safetensors", new=True)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [one for one in pool.map(attempt, range(24)) if one is not None]
    assert read(tmp_path / "a.safetensors")[0]["number"].item() == winner
    assert listing(tmp_path) == ["a.safetensors"]
