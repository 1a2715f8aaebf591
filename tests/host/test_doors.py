"""What nodes refuse at the door that links, shared workflows and chains may bring, and what they take that looks unusual."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from support import comfy_host, golden, tiny

NONE = [math.nan, math.inf, -1e30, 3.4e38, "1", None, torch.tensor([1.0, 2.0]), torch.tensor(math.nan)]


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_no_node_takes_a_number_that_is_none(nodes, model, encoder, subject, clip, clip_vision, value):
    picture = golden.picture(64, 48, 0)
    asked = {
        "strength": [
            lambda: nodes["SSR_ApplySubject"].execute(model, encoder, subject, value),
            lambda: nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, picture, "dog", strength=value),
        ],
        "mask_weight": [
            lambda: nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, picture, "dog", mask_weight=value)
        ],
        "strength_2": [lambda: nodes["SSR_CombineSubjects"].execute(subject, subject, strength_2=value)],
        "opacity": [lambda: nodes["SSR_SubjectAttentionMap"].execute(subject, opacity=value)],
        "index": [lambda: nodes["SSR_SubjectAttentionMap"].execute(subject, index=value)],
        "scene": [lambda: nodes["SSR_MiniScene"].execute(scene=value)],
        "objects": [lambda: nodes["SSR_MiniScene"].execute(objects=value)],
        "marked": [lambda: nodes["SSR_MiniScene"].execute(marked=value)],
        "pictures": [lambda: nodes["SSR_MiniScene"].execute(pictures=value)],
    }
    for name, calls in asked.items():
        for call in calls:
            if name == "strength" and isinstance(value, torch.Tensor) and value.ndim and call is calls[0]:
                continue  # a strength for each frame
            with pytest.raises(ValueError, match=name) as caught:
                call()
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)], ids=lambda value: type(value).__name__)
def test_numbers_of_every_kind_are_taken(nodes, encoder, subject, value):
    (combined,) = nodes["SSR_CombineSubjects"].execute(subject, strength_1=value).args[0]
    assert combined.strength == 0.5
    assert nodes["SSR_SubjectAttentionMap"].execute(subject, opacity=value, index=np.int64(1)).args[1].max() <= 1


def test_megabytes_of_text_are_refused_shortly(nodes, model, encoder, subject, clip, clip_vision):
    advanced = {
        "start": 0.0,
        "end": 1.0,
        "curve": "constant",
        "layers": "all",
        "combine": "joint",
        "subject_scaling": "official",
    }
    for name in ("layer_strengths", "curve_values", "frame_strengths"):
        for text in ("1," * 1_000_000, "x" * 1_000_000, "\x1b[2J", None):
            with pytest.raises(ValueError, match=name) as caught:
                nodes["SSR_ApplySubjectAdvanced"].execute(model, encoder, subject, 0.65, **advanced, **{name: text})
            assert len(str(caught.value)) < 400
            assert str(caught.value).isprintable()
    for changes in (
        {"points": " " * 2_000_000 + "x"},
        {"null_query": "x" * 1_000_000},
        {"query": None},
        {"query": "\ud800"},
        {"fit": "x" * 1_000_000},
    ):
        given = {"query": "dog"} | changes
        with pytest.raises(ValueError, match=next(iter(changes))) as caught:
            nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, golden.picture(64, 48, 0), **given)
        assert len(str(caught.value)) < 400


def test_combine_needs_no_first_slot_and_refuses_none_at_all(nodes, subject):
    (third,) = nodes["SSR_CombineSubjects"].execute(subject_3=subject).args[0]
    assert third.tokens is subject[0].tokens
    assert len(nodes["SSR_CombineSubjects"].execute(subject_2=subject, subject_4=subject).args[0]) == 2
    with pytest.raises(ValueError, match="Combine Subjects got no subject"):
        nodes["SSR_CombineSubjects"].execute()
    schema = nodes["SSR_CombineSubjects"].define_schema()
    assert all(field.optional for field in schema.inputs)


def test_chained_sets_stop_at_the_limit(nodes, subject):
    chained = subject
    for _ in range(3):
        chained = nodes["SSR_CombineSubjects"].execute(*[chained] * 4).args[0]
    assert len(chained) == 64
    with pytest.raises(ValueError, match="256 subjects are too many for one set"):
        nodes["SSR_CombineSubjects"].execute(*[chained] * 4)


def test_several_masks_of_one_picture_are_shown_and_passed_on(nodes, encoder, clip, clip_vision):
    masks = torch.zeros(2, 1, 64, 48)
    masks[0, ..., :24], masks[1, ..., 24:] = 1, 1
    picture = golden.picture(48, 64, 0)
    answer = nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, picture, "", mask=masks)
    assert len(answer.args[0]) == 2
    assert len(answer.ui["ssr_subject"]) == 2


def test_saves_at_once_lose_none(nodes, subject, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: nodes["SSR_SaveSubject"].execute(subject, "race").ui["text"][0], range(16)))
    assert len(set(said)) == 16
    assert len(list((tmp_path / "ssr_subjects").iterdir())) == 16


def test_a_subject_of_a_query_without_words_is_described(subject):
    described = comfy_host.part("nodes.subject_files")._described
    (one,) = subject
    (text,) = described((replace(one, words=(), query="!\x1b[2J"),))
    assert "by its query as a whole, of a picture" in text
    assert text.isprintable()


def test_a_prompt_handler_is_registered_once(monkeypatch):
    migration = comfy_host.part("nodes.migration")

    class Server:
        def __init__(self):
            self.on_prompt_handlers = []

        def add_on_prompt_handler(self, handler):
            self.on_prompt_handlers.append(handler)

    class Module:
        class PromptServer:
            instance = Server()

    monkeypatch.setitem(migration.sys.modules, "server", Module)
    for _ in range(3):
        migration.listen()
    assert len(Module.PromptServer.instance.on_prompt_handlers) == 1


@pytest.mark.parametrize(
    "prompt", [None, [], {"1": None}, {"1": {"class_type": "ApplySSR"}}, {"1": {"class_type": [], "inputs": {}}}], ids=repr
)
def test_a_malformed_prompt_is_left_to_the_host(prompt):
    migration = comfy_host.part("nodes.migration")
    assert migration.replace_in_prompt({"prompt": prompt}) == {"prompt": prompt}


def test_model_safetensors_finds_its_partner(monkeypatch):
    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    listed = ["model.safetensors", "model_1.safetensors", "mine/model_1.bin", "mine/model.bin"]
    monkeypatch.setattr(folders.folder_paths, "get_filename_list", lambda folder: listed if folder == folders.FOLDER else [])
    assert folders.partner_of("model.safetensors") == "model_1.safetensors"
    assert folders.partner_of("mine/model_1.bin") == "mine/model.bin"


def test_an_encoder_of_two_precisions_keeps_the_wider(encoders, tmp_path):
    path = tiny.encoder_file(tmp_path / "mixed.safetensors")
    state = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    halved = {name: tensor.half() if name.startswith("aligner") else tensor for name, tensor in state.items()}
    save_file(halved, path, metadata=metadata)
    module = encoders.load_encoder([str(path)]).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
