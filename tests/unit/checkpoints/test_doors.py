"""Every method's door given the files of the others: each is called what it is, and sent to the node that reads it."""

import itertools
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import golden_lasr, lasr_legacy, lasr_subjects
from support.checkpoint_files import pickled

from ssr_core import checkpoints, cli
from ssr_core.methods.elite import formats as elite
from ssr_core.methods.elite import subject_file as elite_subjects
from ssr_core.methods.lasr import formats, subject_file
from ssr_core.methods.mip import formats as mip
from ssr_core.methods.mip import object_file
from ssr_core.methods.ssr import formats as ssr
from ssr_core.methods.ssr import subject_file as ssr_subjects
from ssr_core.neighbours import READERS

LEGACY = golden_lasr.DATA / "legacy.pt"
DOORS = {
    "ssr_encoder": lambda path: ssr.load([path]),
    "ssr_subject": ssr_subjects.load,
    "ssr_mip_adapter": mip.load,
    "ssr_mip_objects": object_file.load,
    "ssr_elite": lambda path: elite.load([path]),
    "ssr_elite_subject": elite_subjects.load,
    "ssr_lasr_subject": formats.load,
}
WEIGHTS = ("ssr_encoder", "ssr_mip_adapter", "ssr_elite")


@pytest.fixture
def learned(tmp_path):
    subject_file.save(lasr_subjects.make(), tmp_path / "cat.safetensors")
    return tmp_path / "cat.safetensors"


def test_every_format_has_a_door_and_a_node_that_reads_it():
    assert DOORS.keys() == READERS.keys()


@pytest.mark.parametrize(("own", "given"), itertools.permutations(DOORS, 2))
def test_a_file_of_another_format_is_sent_to_the_node_that_reads_it(tmp_path, own, given):
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"format": given, "format_version": "1"})
    with pytest.raises(ValueError, match=rf"file\.safetensors .*{given}.* {re.escape(READERS[given])} reads it\.$"):
        DOORS[own](path)


@pytest.mark.parametrize("own", WEIGHTS)
def test_a_learned_subject_is_no_methods_weights(own, learned, tmp_path):
    with pytest.raises(ValueError, match=r"Load Subject \(LASR\) reads it"):
        DOORS[own](learned)
    with pytest.raises(ValueError, match=r"By their names this is a subject of LASR, .* Load Subject \(LASR\) reads it"):
        DOORS[own](LEGACY)
    save_file(load_file(learned), tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="but a subject of LASR"):
        DOORS[own](tmp_path / "bare.safetensors")


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"1.to_k_SSR.weight": 1}, "an SSR-Encoder"),
        ({"image_proj": {"latents": 1}, "ip_adapter": {"1.text_to_weight.weight": 1}}, "an MIP-Adapter"),
        ({"mapping_0.0.weight": 1}, "a mapper of ELITE"),
        ({"emb_params": 1}, "a textual inversion"),
        ({"state_dict": {"model.diffusion_model.x": 1}}, "a Stable Diffusion checkpoint"),
    ],
)
def test_other_methods_weights_are_no_learned_subject(tmp_path, keys, kind):
    nested = {key: {k: torch.zeros(2) for k in v} if isinstance(v, dict) else torch.zeros(2) for key, v in keys.items()}
    path = pickled(nested, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other\.pt is {kind}, not a subject of LASR\. (Choose|Put)"):
        formats.load(path)
    older = pickled(nested, tmp_path / "older.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=rf"older\.pt is not a learned subject but {kind}"):
        formats.load(older)


def test_a_damaged_file_of_lasrs_authors_is_not_called_another_methods(tmp_path):
    path = tmp_path / "short.pt"
    path.write_bytes(LEGACY.read_bytes()[:-4000])
    with pytest.raises(ValueError, match=r"short\.pt cannot be read as a subject: it is damaged"):
        formats.load(path)


def test_the_public_door_tells_and_loads_learned_subjects(learned, tmp_path):
    assert checkpoints.kind([learned]) == checkpoints.kind([LEGACY]) == "lasr"
    (subject,) = checkpoints.load([learned])
    assert subject.fingerprint == lasr_subjects.make().fingerprint
    (authors,) = checkpoints.load([LEGACY])
    assert authors.placeholder == "z"
    with pytest.raises(ValueError, match="A subject of LASR is one file, got 2"):
        checkpoints.load([learned, LEGACY])
    torch.save({"1.to_k_SSR.weight": torch.zeros(2, 2)}, tmp_path / "layers.bin")
    with pytest.raises(ValueError, match=r"of one method, got .*\(a subject of LASR\) and .*\(an SSR-Encoder\)"):
        checkpoints.kind([learned, tmp_path / "layers.bin"])


def test_convert_makes_our_file_of_the_authors(tmp_path, capsys):
    ours = tmp_path / "z.safetensors"
    assert cli.main(["convert", str(LEGACY), "--out", str(ours)]) == 0
    (expected,) = formats.load(LEGACY)
    assert subject_file.load(ours).fingerprint == expected.fingerprint
    assert f'subject "z" {expected.fingerprint[:12]}' in capsys.readouterr().out
    assert cli.main(["convert", str(LEGACY), "--dtype", "fp16", "--out", str(tmp_path / "half.safetensors")]) == 2
    assert "--dtype is not for subjects of LASR" in capsys.readouterr().err
    assert cli.main(["convert", str(LEGACY), "--official", "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "these files are of a subject of LASR" in capsys.readouterr().err


def test_convert_sends_a_file_with_several_subjects_to_the_nodes(tmp_path, capsys):
    def second(whole):
        whole["string_to_token"]["y"] = torch.tensor(344)
        for part in ("string_to_param", "string_to_lasr_embedder"):
            whole[part]["y"] = whole[part]["z"]

    path = lasr_legacy.write(tmp_path / "both.pt", second)
    assert cli.main(["convert", str(path), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "holds 2 subjects, and a file of ours one" in capsys.readouterr().err


def test_generate_says_how_a_learned_subject_is_given(learned, tmp_path, capsys):
    command = ["generate", "--prompt", "a z", "--out", str(tmp_path / "out"), "--encoder", str(learned)]
    for more in ([], ["--reference", "a.png"]):
        assert cli.main([*command, *more]) == 2
        assert "is a subject of LASR, no encoder. Give it with --subject." in capsys.readouterr().err
