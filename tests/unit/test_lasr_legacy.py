"""The authors' .pt files from strangers: what is a subject is read, and nothing in a file is ever run."""

import io
import pickle
import sys
import warnings
import zipfile

import pytest
import torch
from support import lasr_legacy
from support.lasr_legacy import embedder, write
from torch import nn

from ssr_core import tensor_files
from ssr_core.methods.lasr import formats, legacy
from ssr_core.methods.lasr.subject import weights_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embeddings_gs-4000.pt"


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


def static_of(whole):
    return whole["string_to_param"]["z"]


def adaptive_of(whole):
    return whole["string_to_lasr_embedder"]["z"]


def test_a_file_is_read_without_the_authors_code(path):
    made = embedder()
    (subject,) = formats.load(write(path, made=made))
    assert "ldm" not in sys.modules
    assert (subject.placeholder, subject.token, subject.alpha) == ("z", 345, 0.5)
    expected = weights_of(made)
    assert subject.weights.keys() == expected.keys()
    assert all(torch.equal(subject.weights[name], value) for name, value in expected.items())


def test_names_of_march_are_read_too(path):
    def renamed(whole):
        return {key.replace("lasr", "ada"): value for key, value in whole.items()}

    (subject,) = formats.load(write(path, renamed, adaptive="AdaEmbedding"))
    assert subject.placeholder == "z"


def test_several_placeholders_are_several_subjects(path):
    def two(whole):
        whole["string_to_token"]["y"] = torch.tensor(344)
        whole["string_to_param"]["y"] = static_of(whole)
        whole["string_to_lasr_embedder"]["y"] = adaptive_of(whole)

    assert [(subject.placeholder, subject.token) for subject in formats.load(write(path, two))] == [("z", 345), ("y", 344)]


def test_a_static_embedder_without_bias_has_a_bias_of_zero(path):
    def without(whole):
        static = static_of(whole)
        del static.bias, static.bias_scales
        static.has_bias = False

    (subject,) = formats.load(write(path, without))
    assert not subject.weights["static.bias"].any()
    assert subject.weights["static.bias_scales"].eq(1).all()


def test_stand_ins_are_gone_after_reading(path):
    formats.load(write(path))
    assert not set(legacy.STAND_INS) & set(torch.serialization.get_safe_globals())


def in_tensor_place(whole, bomb):
    static_of(whole).__dict__["_parameters"]["bias"] = bomb


def in_hooks(whole, bomb):
    adaptive_of(whole)._forward_hooks[0] = bomb


def as_token(whole, bomb):
    whole["string_to_token"]["z"] = bomb


def beside(whole, bomb):
    whole["notes"] = bomb


@pytest.mark.parametrize("place", [in_tensor_place, in_hooks, as_token, beside])
def test_code_in_a_file_is_not_run_and_named(path, tmp_path, place):
    proof = tmp_path / "proof"
    write(path, lambda whole: place(whole, Bomb(proof)))
    with pytest.raises(
        ValueError, match=r"embeddings_gs-4000\.pt cannot be read as a subject: it holds .*open, which could run code"
    ):
        formats.load(path)
    assert not proof.exists()


@pytest.mark.parametrize("foreign", [nn.Conv2d(1, 1, 1), nn.ReLU(), zipfile.ZipFile, print], ids=str)
def test_any_other_class_is_refused_by_name(path, foreign):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path, lambda whole: beside(whole, foreign))
    with pytest.raises(ValueError, match="which could run code"):
        formats.load(path)


def test_a_stand_in_cannot_be_made_to_set_attributes(path):
    """A state of two parts would have the unpickler call setattr on it."""

    def change(whole):
        whole["notes"] = lasr_legacy.sys.modules[lasr_legacy.MANAGER].LNCat2()
        type(whole["notes"]).__getstate__ = lambda self: ({}, {"parts": {"_modules": {}}})

    with pytest.raises(ValueError, match="it is damaged"):
        formats.load(write(path, change))


def huge(*shape):
    return torch.zeros(1).expand(shape)


def shape_of_bias(whole):
    static_of(whole).bias = nn.Parameter(torch.zeros(16, 769))


def huge_bias(whole):
    static_of(whole).bias = nn.Parameter(huge(2**20, 2**20))


def huge_rank(whole):
    static_of(whole).r = 2**60


def huge_words(whole):
    static_of(whole).N = -(2**60)


def words_of_tensors(whole):
    static_of(whole).N = torch.tensor([1, 2])


def other_rank(whole):
    static_of(whole).r = 4


def no_numbers(whole):
    static_of(whole).pre_vecs.data.fill_(float("nan"))


def whole_numbers(whole):
    static_of(whole)._parameters["bias"] = torch.zeros(16, 768, dtype=torch.int64)


def sparse(whole):
    static_of(whole)._parameters["bias"] = torch.zeros(16, 768).to_sparse()


def other_epsilon(whole):
    static_of(whole).layer_lns[3].eps = 1e-3


def other_layers(whole):
    adaptive_of(whole).layer_idx2emb_idx = {index: index for index in range(16)}


def layers_of_tensors(whole):
    adaptive_of(whole).layer_idx2emb_idx = {block: torch.zeros(3) for block in lasr_legacy.BLOCKS}


def other_widths(whole):
    adaptive_of(whole).infeat_dims = [320] * 25


def widths_in_themselves(whole):
    widths = []
    widths.append(widths)
    adaptive_of(whole).infeat_dims = widths


def module_in_itself(whole):
    adaptive_of(whole)._modules["layer_maps"] = adaptive_of(whole)


def no_layer(whole):
    del adaptive_of(whole).layer_maps[7]


def no_static(whole):
    del whole["string_to_param"]


def no_adaptive(whole):
    whole["string_to_lasr_embedder"] = None


def no_token(whole):
    whole["string_to_token"] = {}


def token_of_numbers(whole):
    whole["string_to_token"]["z"] = torch.zeros(3, dtype=torch.int64)


def token_below_zero(whole):
    whole["string_to_token"]["z"] = torch.tensor(-1)


def another_share(whole):
    whole["lasr_emb_weight"] = 7.0


def share_of_tensors(whole):
    whole["lasr_emb_weight"] = torch.zeros(4)


def strange_names(whole):
    whole["string_to_param"].__dict__["_modules"] = {(1, 2): static_of(whole)}


def bare(whole):
    return {"state_dict": {"weight": torch.zeros(2)}}


def a_list(whole):
    return [torch.zeros(2)]


@pytest.mark.parametrize(
    "change",
    [
        shape_of_bias, huge_bias, huge_rank, huge_words, words_of_tensors, other_rank, no_numbers, whole_numbers, sparse, other_epsilon,
        other_layers, layers_of_tensors, other_widths, widths_in_themselves, module_in_itself, no_layer, no_static, no_adaptive,
        no_token, token_of_numbers, token_below_zero, another_share, share_of_tensors, strange_names, bare, a_list,
    ],
)  # fmt: skip
def test_what_is_no_subject_is_refused_by_file(path, change):
    with pytest.raises(ValueError, match=r"embeddings_gs-4000\.pt is no subject of LASR .* Copy the file again"):
        formats.load(write(path, change))


def test_every_cut_of_a_file_is_refused(path):
    whole = write(path).read_bytes()
    for length in (5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"embeddings_gs-4000\.pt cannot be read as a subject: it is damaged"):
            formats.load(path)


def test_damaged_bytes_never_escape_as_another_error(path):
    whole = bytearray(write(path).read_bytes())
    start = whole.index(b"string_to_token")
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(0, 20_000, (40,), generator=generator).tolist():
        broken = bytearray(whole)
        broken[start + place] ^= 0xFF
        path.write_bytes(broken)
        told = ""
        try:
            formats.load(path)  # where the byte does not matter
        except ValueError as error:
            told = str(error)
        assert not told or "embeddings_gs-4000.pt" in told


def test_a_compressed_archive_is_refused_before_it_unfolds(path):
    write(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    with pytest.raises(ValueError, match="is a compressed archive"):
        formats.load(path)


def test_a_file_far_too_large_is_not_opened(path, monkeypatch):
    monkeypatch.setattr(legacy, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match=r"has [\d,]+ bytes; a subject has about a million"):
        formats.load(write(path))


def test_a_torch_with_holes_reads_no_pickle(path, monkeypatch):
    monkeypatch.setattr(tensor_files, "SAFE_PICKLES", (99, 0))
    with pytest.raises(ValueError, match=r"is a pickle, .* torch 99\.0 or newer does"):
        formats.load(write(path))


def test_a_plain_pickle_is_no_subject(path, tmp_path):
    proof = tmp_path / "proof"
    path.write_bytes(pickle.dumps(Bomb(proof)))
    with pytest.raises(ValueError, match=r"embeddings_gs-4000\.pt"):
        formats.load(path)
    assert not proof.exists()


def test_a_zip_file_of_something_else_is_no_subject(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="it is damaged"):
        formats.load(path)


@pytest.mark.parametrize("holder", [nn.ParameterDict, dict])
def test_an_embedding_of_one_vector_is_named_so(path, holder):
    """As the first code of Textual Inversion and AUTOMATIC1111's web UI write it."""
    vector = nn.Parameter(torch.zeros(1, 768))
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": holder({"*": vector}), "name": "cat"}, path)
    with pytest.raises(ValueError, match=r"is a textual inversion, not a subject of LASR.*embedding:embeddings_gs-4000"):
        formats.load(path)
