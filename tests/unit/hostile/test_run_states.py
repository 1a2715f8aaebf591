"""What a run left behind: checkpoints that are damaged, incomplete, of another run, or mean harm."""

import pickle

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from support.hostile import settings

from ssr_core.training import checkpoints, loop, run_state, state_file


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


def checkpoints_in(out):
    return sorted(path.name for path in out.glob("checkpoint-*"))


def old_checkpoint(world, out, proof=None):
    """A checkpoint as accelerate wrote it, with a pickle for optimizer and average; `proof`: the pickles mean harm."""
    made = loop.train(settings(world, out, ema=0.9), cpu=True, stop_after=2)
    kept = state_file.read(made / run_state.STATE)
    weights = load_file(made / run_state.WEIGHTS)
    values = [kept["average"]["values"][name] for name in sorted(weights, key=list(module_names(made)).index)]
    (made / run_state.STATE).unlink()
    bomb = None if proof is None else Bomb(proof)
    torch.save(bomb or {**kept["optimizer"], "param_groups": []}, made / run_state.OLD_OPTIMIZER)
    torch.save(bomb or {"values": values, "updates": kept["average"]["updates"]}, made / run_state.OLD_AVERAGE)
    (made / "random_states_0.pkl").write_bytes(pickle.dumps(bomb))
    return made


def module_names(made):
    """The weights in the order of the module, which safetensors files do not keep."""
    from ssr_core.methods.ssr import formats

    return [f"encoder.{name}" for name, _ in formats.load([made / "encoder.safetensors"]).named_parameters()]


@pytest.mark.skipif(not torch.__version__ >= "2.10" and torch.__version__[:3] != "2.1", reason="pickles are refused")
def test_an_earlier_versions_checkpoint_goes_on_to_the_same_bits(world, tmp_path):
    whole = loop.train(settings(world, tmp_path / "whole", ema=0.9), cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    old_checkpoint(world, tmp_path / "old")
    AcceleratorState._reset_state(reset_partial_state=True)
    resumed = loop.train(settings(world, tmp_path / "old", ema=0.9), resume=True, cpu=True)
    for name in ("encoder.safetensors", "encoder_ema.safetensors"):
        one, other = load_file(whole / name), load_file(resumed / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_no_pickle_in_a_checkpoint_runs(world, tmp_path):
    made = old_checkpoint(world, tmp_path / "run", proof=tmp_path / "proof")
    for left_out in ("nothing", run_state.OLD_OPTIMIZER):
        (made / left_out).unlink(missing_ok=True)
        if left_out != "nothing":
            torch.save({"state": {}}, made / left_out)
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(ValueError, match=r"is not read|newer only"):
            loop.train(settings(world, tmp_path / "run", ema=0.9), resume=True, cpu=True)
    assert not (tmp_path / "proof").exists()


def test_pickles_are_refused_where_torch_cannot_be_trusted_with_them(tmp_path, monkeypatch):
    torch.save({"state": {}}, tmp_path / "optimizer.bin")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match=r"2\.10 or newer only; this is 2\.9\.1"):
        state_file.read_pickle(tmp_path / "optimizer.bin")


def test_nothing_in_a_checkpoint_folder_is_a_pickle(world, tmp_path):
    made = loop.train(settings(world, tmp_path / "run", ema=0.9, steps=1), cpu=True)
    assert {path.suffix for path in made.iterdir()} == {".safetensors", ".yaml", ".json"}


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"a": {0: {"step": torch.tensor(3.0), "rows": torch.ones(2, 2)}}, "b": [1, 2.5, None, True, "x"], "c": {}}
    state_file.write(state, tmp_path / "state.safetensors")
    found = state_file.read(tmp_path / "state.safetensors")
    assert found["b"] == state["b"]
    assert found["c"] == {}
    assert torch.equal(found["a"][0]["step"], state["a"][0]["step"])
    assert torch.equal(found["a"][0]["rows"], state["a"][0]["rows"])
    with pytest.raises(TypeError, match="Bomb cannot be kept"):
        state_file.write({"x": Bomb(tmp_path)}, tmp_path / "other")


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "swapped"])
def test_a_damaged_state_is_refused_by_name(world, tmp_path, damage):
    made = loop.train(settings(world, tmp_path / "run", steps=2), cpu=True)
    file = made / run_state.STATE
    content = file.read_bytes()
    if damage == "swapped":
        state_file.write({"optimizer": {"state": {0: {"step": 1}}}, "average": None, "scaler": None}, file)
    else:
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"PK\x03\x04"}[damage])
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match=r"checkpoint-2.*(damaged|does not fit)"):
        loop.train(settings(world, tmp_path / "run", steps=3), resume=True, cpu=True)


def test_weights_of_other_shapes_are_refused(world, tmp_path):
    loop.train(settings(world, tmp_path / "run", steps=2), cpu=True)
    for changes, message in (({"inner_width": 64}, "names or shapes differ"), ({"ema": 0.5}, "was made without `ema`")):
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(ValueError, match=message):
            loop.train(settings(world, tmp_path / "run", **changes), resume=True, cpu=True)


@pytest.mark.parametrize("progress", [b"", b"{", b"[]", b'{"step": "2"}', b'{"step": 7}', b"\xff\xfe", None])
def test_a_folder_without_a_whole_progress_is_no_checkpoint_and_is_left_alone(tmp_path, progress):
    checkpoints.save(tmp_path, 2, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    stale = tmp_path / "checkpoint-9"
    stale.mkdir()
    (stale / "encoder.safetensors").write_bytes(b"precious")
    if progress is not None:
        (stale / "progress.json").write_bytes(progress)
    assert checkpoints.newest(tmp_path).name == "checkpoint-2"
    last = checkpoints.save(tmp_path, 4, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    assert checkpoints_in(tmp_path) == ["checkpoint-4", "checkpoint-9"]
    assert checkpoints.newest(tmp_path) == last
    checkpoints.save(tmp_path, 9, 0, lambda folder: None)
    assert (tmp_path / "checkpoint-9.set-aside-1" / "encoder.safetensors").read_bytes() == b"precious"
    assert checkpoints.newest(tmp_path).name == "checkpoint-9"


def test_a_save_that_fails_leaves_the_checkpoints_that_there_were(tmp_path):
    checkpoints.save(tmp_path, 2, 0, lambda folder: None)

    def full(folder):
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, 4, 0, full)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_only_what_training_wrote_is_deleted(tmp_path):
    first = checkpoints.save(tmp_path, 1, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    (first / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "progress.json").write_text('{"step": 3}')
    (tmp_path / "checkpoint-3").symlink_to(elsewhere, target_is_directory=True)
    checkpoints.save(tmp_path, 5, 0, lambda folder: None)
    assert [path.name for path in first.iterdir()] == ["notes.txt"]
    assert (elsewhere / "progress.json").is_file()


def test_what_is_not_finite_is_never_saved(world, tmp_path):
    with pytest.raises(FloatingPointError, match=r"at step \d\. Lower lr"):
        loop.train(settings(world, tmp_path / "run", lr=1e30, steps=9, save_every=1), cpu=True)
    for made in (tmp_path / "run").glob("checkpoint-*"):
        assert all(bool(value.isfinite().all()) for value in load_file(made / "encoder.safetensors").values())
