"""The nodes as the host sees them: schemas, files, encoding, and what they refuse at the door."""

import re
import subprocess
import sys

import pytest
import torch
from support import comfy_host, golden, tiny

IDS = {
    "SSR_LoadEncoder", "SSR_EncodeSubject", "SSR_CombineSubjects", "SSR_ApplySubject", "SSR_ApplySubjectAdvanced",
    "SSR_SubjectAttentionMap", "SSR_SaveSubject", "SSR_LoadSubject", "SSR_LoadMini", "SSR_MiniScene",
    "SSR_SelectByPoints", "SSR_RecordFootprint", "SSR_SubjectFootprint", "SSR_InspectModel",
    "SSR_ShowToControlNet",
    "SSR_LoadMIPAdapter", "SSR_EncodeObjectMIP", "SSR_CombineObjectsMIP", "SSR_ApplyObjectsMIP", "SSR_SaveObjectsMIP",
    "SSR_LoadObjectsMIP",
    "SSR_LoadSubjectLASR", "SSR_CombineSubjectsLASR", "SSR_PromptWithSubjectLASR", "SSR_ApplySubjectLASR", "SSR_SaveSubjectLASR",
    "SSR_LearnSubjectLASR",
    "SSR_LoadELITE", "SSR_EncodeSubjectELITE", "SSR_PromptWithSubjectELITE", "SSR_ApplySubjectELITE", "SSR_SaveSubjectELITE",
    "SSR_LoadSubjectELITE",
}  # fmt: skip


def test_ids_and_order_of_widgets_never_change(nodes):
    """Workflows store ids by name and widget values by position: this table is the pack's public interface."""
    assert nodes.keys() == IDS
    positions = {
        "SSR_LoadEncoder": ["encoder_file", "layers_file"],
        "SSR_EncodeSubject": [
            "ssr_encoder", "clip", "clip_vision", "image", "query", "mask", "mask_weight", "null_query", "fit", "strength",
            "points", "previous", "crop",
        ],
        "SSR_CombineSubjects": [f"subject_{i}" for i in range(1, 5)] + [f"strength_{i}" for i in range(1, 5)],
        "SSR_ApplySubject": ["model", "ssr_encoder", "subject", "strength"],
        "SSR_ApplySubjectAdvanced": [
            "model", "ssr_encoder", "subject", "strength", "start", "end", "curve", "layers", "combine", "subject_scaling", "region",
            "layer_strengths", "curve_values", "frame_strengths", "subject_per_picture",
        ],
        "SSR_ShowToControlNet": ["positive", "negative", "subject"],
        "SSR_SubjectAttentionMap": ["subject", "image", "word", "opacity", "index"],
        "SSR_SaveSubject": ["subject", "filename_prefix"],
        "SSR_LoadSubject": ["subject_file"],
        "SSR_SelectByPoints": ["clip_vision", "image", "points", "fit", "crop"],
        "SSR_RecordFootprint": ["model"],
        "SSR_SubjectFootprint": ["footprint", "image", "index", "opacity"],
        "SSR_InspectModel": ["model", "after"],
        "SSR_LoadMini": [],
        "SSR_MiniScene": ["scene", "objects", "background", "marked"],
        "SSR_LoadMIPAdapter": ["adapter_file"],
        "SSR_EncodeObjectMIP": [
            "mip_adapter", "clip", "clip_vision", "image", "name", "mask", "points", "fit", "strength", "region", "previous", "crop",
        ],
        "SSR_CombineObjectsMIP": [f"objects_{i}" for i in range(1, 5)] + [f"strength_{i}" for i in range(1, 5)],
        "SSR_ApplyObjectsMIP": [
            "model", "mip_adapter", "objects", "strength", "start", "end", "curve", "layers", "combine", "region",
            "layer_strengths", "curve_values", "frame_strengths",
        ],
        "SSR_SaveObjectsMIP": ["objects", "filename_prefix"],
        "SSR_LoadObjectsMIP": ["objects_file"],
        "SSR_LoadSubjectLASR": ["subject_file", "placeholder", "strength", "clip"],
        "SSR_CombineSubjectsLASR": [f"subject_{i}" for i in range(1, 5)] + [f"strength_{i}" for i in range(1, 5)],
        "SSR_PromptWithSubjectLASR": ["clip", "subject", "text"],
        "SSR_ApplySubjectLASR": [
            "model", "clip", "subject", "alpha", "start", "end", "curve", "layers", "reuse_steps", "layer_strengths", "curve_values",
        ],
        "SSR_SaveSubjectLASR": ["subject", "filename_prefix"],
        "SSR_LearnSubjectLASR": [
            "model", "clip", "vae", "pictures", "words", "weights", "placeholder", "steps", "batch_size", "learning_seed",
            "preview_every", "masks", "class_word", "captions", "kind", "fit", "size", "phrases", "rate", "gradient_checkpointing",
            "resume",
        ],
        "SSR_LoadELITE": ["elite_file", "local_file"],
        "SSR_EncodeSubjectELITE": [
            "elite", "clip_vision", "image", "mask", "points", "framing", "margin", "strength", "previous", "crop",
        ],
        "SSR_PromptWithSubjectELITE": ["clip", "subject", "text", "placeholder", "words"],
        "SSR_ApplySubjectELITE": [
            "model", "elite", "subject", "strength", "start", "end", "curve", "layers", "region", "layer_strengths", "curve_values",
            "frame_strengths",
        ],
        "SSR_SaveSubjectELITE": ["subject", "filename_prefix"],
        "SSR_LoadSubjectELITE": ["subject_file", "previous"],
    }  # fmt: skip
    assert {name: [slot.id for slot in node.GET_SCHEMA().inputs] for name, node in nodes.items()} == positions


def test_every_input_and_output_explains_itself(nodes):
    for name, node in nodes.items():
        schema = node.GET_SCHEMA()
        (method, *_) = [f"/{word}" for word in ("MIP", "LASR", "ELITE") if name.endswith((word, f"{word}Adapter"))] or [""]
        assert schema.category == f"SSR-Encoder{method}"
        assert schema.description, name
        for slot in [*schema.inputs, *schema.outputs]:
            assert slot.tooltip, f"{name}.{slot.id}"


def test_what_people_type_finds_the_nodes_that_encode_and_no_others(nodes):
    """Where the host knows such words; names of nodes are found besides."""
    aliases = {name: getattr(node.GET_SCHEMA(), "search_aliases", None) for name, node in nodes.items()}
    if None in aliases.values():
        pytest.skip("this host's search knows no other words than a node's names")
    typed = {"ipadapter", "ip-adapter", "reference", "consistent character", "subject", "style"}
    found = {name: typed & set(words) for name, words in aliases.items()}
    encoding = {name for name in nodes if name.startswith("SSR_Encode")}
    assert found == {name: typed if name in encoding else set() for name in nodes}
    assert all(aliases.values()), "each by its method, at least"


def test_every_wire_has_a_colour_of_its_own():
    text = (comfy_host.PACK / "web" / "ssr_wires.js").read_text()
    colours = dict(re.findall(r'^  (SSR_\w+): "(#[0-9a-f]{6})",$', text, re.MULTILINE))
    wires = re.findall(r'io\.Custom\("(\w+)"\)', (comfy_host.PACK / "nodes" / "wires.py").read_text())
    assert set(colours) == set(wires)
    assert len(set(colours.values())) == len(wires)


def test_defaults_are_the_official_scripts(nodes):
    """Of Xiaojiu-z/SSR_Encoder: strength and null query of infer_text.py, mask weight of infer_mask.py, and how both encode."""
    defaults = {
        (name, slot.id): slot.default
        for name, node in nodes.items()
        for slot in node.GET_SCHEMA().inputs
        if hasattr(slot, "default")
    }
    assert defaults["SSR_ApplySubject", "strength"] == 0.65
    assert defaults["SSR_ApplySubjectAdvanced", "strength"] == 0.65
    assert defaults["SSR_EncodeSubject", "mask_weight"] == 1.0
    assert defaults["SSR_EncodeSubject", "null_query"] == ""
    assert defaults["SSR_EncodeSubject", "fit"] == "center crop"
    assert defaults["SSR_ApplySubjectAdvanced", "combine"] == "joint"
    assert defaults["SSR_ApplySubjectAdvanced", "subject_scaling"] == "official"


def test_defaults_of_the_mip_adapter_are_its_demos(nodes):
    """Of hqhQAQ/MIP-Adapter (mip.md, section 1): scale 0.75, the merge of the paper, raw photos."""
    schemas = {name: node.GET_SCHEMA().inputs for name, node in nodes.items() if name.endswith("MIP")}
    defaults = {(name, slot.id): getattr(slot, "default", None) for name, slots in schemas.items() for slot in slots}
    assert defaults["SSR_ApplyObjectsMIP", "strength"] == 0.75
    assert defaults["SSR_ApplyObjectsMIP", "combine"] == "by word, gated"
    assert defaults["SSR_EncodeObjectMIP", "fit"] == "center crop"


def test_rare_inputs_are_folded_away_on_hosts_that_can(nodes):
    from comfy_api.latest import io

    folded = {slot.id for slot in nodes["SSR_ApplyObjectsMIP"].GET_SCHEMA().inputs if getattr(slot, "advanced", False)}
    known = "advanced" in io.String.Input("x").as_dict() or hasattr(io.String.Input("x"), "advanced")
    assert folded == ({"layer_strengths", "curve_values", "frame_strengths"} if known else set())


def test_query_is_encoded_with_the_last_layer_whatever_is_set_upstream(encoders, clip):
    expected = encoders.encode_query(clip, "a red dog", 768)
    skipped = clip.clone()
    skipped.clip_layer(-2)
    assert torch.equal(encoders.encode_query(skipped, "a red dog", 768).embeds, expected.embeds)
    assert skipped.layer_idx == -2
    assert not torch.equal(skipped.encode_from_tokens(skipped.tokenize("a red dog")).float(), expected.embeds)


def test_prompt_weights_are_ignored_and_words_found(encoders, clip):
    plain = encoders.encode_query(clip, "a red dog", 768)
    weighted = encoders.encode_query(clip, "a (red:1.6) dog", 768)
    assert torch.equal(weighted.embeds, plain.embeds)
    assert [tuple(word) for word in plain.words] == [("a", 1, 2), ("red", 2, 3), ("dog", 3, 4)]
    split = encoders.encode_query(clip, "bearplushie, hat", 768)
    assert [word.text for word in split.words] == ["bearplushie", "hat"]
    assert split.words[0].stop - split.words[0].first > 1
    assert encoders.encode_query(clip, "", 768).words == ()


def test_a_long_query_is_cut_with_a_warning(encoders, clip, caplog):
    query = encoders.encode_query(clip, "dog " * 100, 768)
    assert query.embeds.shape == (1, 77, 768)
    assert any("longer than 75 tokens" in record.getMessage() for record in caplog.records)


def test_encoding_a_batch_can_be_interrupted(nodes, encoder, clip, clip_vision, monkeypatch):
    import comfy.model_management

    asked = []

    def interrupted():
        asked.append(1)
        if len(asked) == 4:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupted)
    batch = torch.rand(8, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.encode(nodes, encoder, clip, clip_vision, batch)
    assert len(asked) == 4


@pytest.mark.parametrize(("width", "words"), [(768, ["a", "embedding", "dog"]), (1024, None)])
def test_an_embedding_of_another_width_is_refused_and_not_dropped(encoders, clip, width, words, monkeypatch):
    """The host leaves it out with a line in its log, and the words behind it move up by one."""
    tokens = clip.tokenize("a dog")
    tokens["l"][0][2:3] = [(torch.zeros(width), 1.0), tokens["l"][0][2]]
    del tokens["l"][0][-1]
    monkeypatch.setattr(type(clip), "tokenize", lambda self, text: tokens)
    if words is None:
        with pytest.raises(ValueError, match="names an embedding of width 1024; the SSR-Encoder needs 768"):
            encoders.encode_query(clip, "a embedding:other dog", 768)
    else:
        assert [word.text for word in encoders.encode_query(clip, "a embedding:own dog", 768).words] == words


def test_one_vision_pass_for_a_new_picture_and_none_for_a_known_one(nodes, encoder, clip, clip_vision, monkeypatch):
    batches, forward = [], clip_vision.model.forward

    def counted(*args, **kwargs):
        batches.append(len(kwargs["pixel_values"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(clip_vision.model, "forward", counted)
    one, two = golden.picture(64, 48, 0), golden.picture(64, 48, 1)
    tiny.encode(nodes, encoder, clip, clip_vision, one)
    assert batches == [2]  # the picture, and the zero picture of the unconditional side, once
    tiny.encode(nodes, encoder, clip, clip_vision, one, query="another word")
    assert batches == [2]
    tiny.encode(nodes, encoder, clip, clip_vision, two)
    assert batches == [2, 1]


def test_a_batch_of_references_gives_a_subject_each(nodes, encoder, clip, clip_vision):
    batch = torch.cat([golden.picture(64, 48, variant) for variant in range(3)])
    subjects = tiny.encode(nodes, encoder, clip, clip_vision, batch)
    alone = tiny.encode(nodes, encoder, clip, clip_vision, batch[1:2])[0]
    assert len(subjects) == 3
    assert golden.relative_error(subjects[1].tokens, alone.tokens) <= 1e-5


@pytest.mark.parametrize(
    "image",
    [torch.rand(1, 40, 30, 4), torch.rand(1, 1, 1, 3), torch.rand(1, 8, 8000, 3), torch.rand(1, 30, 40, 3).half()],
    ids=["RGBA", "1 pixel", "8000 pixels wide", "half precision"],
)
def test_unusual_pictures_are_encoded(nodes, encoder, clip, clip_vision, image):
    (subject,) = tiny.encode(nodes, encoder, clip, clip_vision, image)
    assert torch.isfinite(subject.tokens).all()
    assert subject.source_size == tuple(image.shape[1:3])


def test_an_empty_batch_is_refused(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="batch of at least one picture"):
        tiny.encode(nodes, encoder, clip, clip_vision, torch.zeros(0, 8, 8, 3))


def test_an_empty_query_needs_a_mask(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="query is empty and there is no mask"):
        tiny.encode(nodes, encoder, clip, clip_vision, query=" ")
    assert len(tiny.encode(nodes, encoder, clip, clip_vision, query="", mask=torch.ones(1, 48, 64))) == 1


def test_a_mask_of_zero_area_is_refused(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="mask query marks nothing"):
        tiny.encode(nodes, encoder, clip, clip_vision, mask=torch.zeros(1, 64, 64))


def test_clip_vision_of_another_width_is_refused(nodes, clip, clip_vision, encoders, tmp_path):
    wide = encoders.load_encoder([str(tiny.encoder_file(tmp_path / "wide.safetensors", vision_width=128))])
    with pytest.raises(ValueError, match=r"CLIP Vision model has width 64 .* needs width 128"):
        tiny.encode(nodes, wide, clip, clip_vision)


def test_clip_of_another_family_is_refused(encoders):
    class TwoEncoders:
        def clone(self):
            return self

        def clip_layer(self, layer):
            pass

        def tokenize(self, text):
            return {"g": [[]], "l": [[]]}

        class cond_stage_model:
            clip_g = clip_l = None

    with pytest.raises(ValueError, match=r"text encoders g, l; the SSR-Encoder needs SD1\.5's own CLIP-L"):
        encoders.encode_query(TwoEncoders(), "dog", 768)


def test_combine_multiplies_strengths_and_keeps_order(nodes, encoder, subject):
    other = (tiny.subject(encoder.fingerprint, seed=9, strength=0.5),)
    combined = nodes["SSR_CombineSubjects"].execute(subject, None, other, None, strength_1=0.8, strength_3=0.5).args[0]
    assert [part.strength for part in combined] == [0.8, 0.25]


def test_a_stale_combo_value_is_named(nodes, model, encoder, subject):
    for change, valid in [({"curve": "zzz"}, "fade in"), ({"layers": "zzz"}, "decoder only"), ({"combine": "zzz"}, "separate")]:
        values = {
            "start": 0.0,
            "end": 1.0,
            "curve": "constant",
            "layers": "all",
            "combine": "joint",
            "subject_scaling": "official",
        }
        with pytest.raises(ValueError, match=valid):
            nodes["SSR_ApplySubjectAdvanced"].execute(model, encoder, subject, 0.65, **{**values, **change})


def test_model_folders_keep_what_the_user_configured(tmp_path):
    """extra_model_paths.yaml may name the folder before packs are loaded."""
    import folder_paths

    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    before = dict(folder_paths.folder_names_and_paths)
    try:
        folder_paths.folder_names_and_paths["ssr_encoder"] = ([str(tmp_path)], {".foo"})
        folders.register()
        folders.register()
        paths, extensions = folder_paths.folder_names_and_paths["ssr_encoder"]
        assert paths[0] == str(tmp_path)
        assert [path.rsplit("/", 1)[-1] for path in paths[1:]] == ["ssr_encoder", "ssr"]
        assert {".foo", ".bin", ".safetensors"} <= extensions
        (tmp_path / "mine.safetensors").touch()
        assert folders.path_of("mine.safetensors") == str(tmp_path / "mine.safetensors")
        with pytest.raises(FileNotFoundError, match=r"no SSR-Encoder file .*nothere.*install\.py --download"):
            folders.path_of("nothere.bin")
    finally:
        folder_paths.folder_names_and_paths.clear()
        folder_paths.folder_names_and_paths.update(before)


def test_importing_the_pack_is_cheap_and_touches_nothing():
    """The module ComfyUI imports brings in neither torch nor our own code; nodes wait for the entry point."""
    script = (
        "import importlib.util, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('pack', r'{comfy_host.PACK / '__init__.py'}', "
        f"submodule_search_locations=[r'{comfy_host.PACK}'])\n"
        "before = set(sys.modules); module = importlib.util.module_from_spec(spec); sys.modules['pack'] = module\n"
        "spec.loader.exec_module(module); print(sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['pack']"


def test_importing_all_nodes_loads_no_extension_beyond_the_hosts(nodes):
    """Everything heavy that the nodes import, the host has imported before."""
    script = (
        f"import sys; sys.path[:0] = [r'{comfy_host.find()}', r'{comfy_host.PACK / 'tests'}']\n"
        "from support import comfy_host; comfy_host.start()\n"
        "import nodes, comfyui_version, comfy_api.latest, comfy.model_patcher, comfy.sd\n"
        "from comfy_config import config_parser\n"  # as load_custom_node does before it asks a pack for its nodes
        "before = set(sys.modules); comfy_host.part('nodes')\n"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip().splitlines()[-1] == "['ssr_encoder_pack']"


def test_files_that_are_linked_cause_no_fault_before_they_are_known(nodes):
    """The host asks for a node's fingerprint with None for what comes by a link, and runs a node anew whose answer fails."""
    assert nodes["SSR_LoadEncoder"].fingerprint_inputs(encoder_file=None, layers_file=None) == [None]
    assert nodes["SSR_LoadEncoder"].fingerprint_inputs(encoder_file=None) == [None]
    assert nodes["SSR_LoadSubject"].fingerprint_inputs(subject_file=None) is None


def test_a_word_in_any_script_can_be_asked_for(nodes, encoder, clip, clip_vision):
    subject = tiny.encode(nodes, encoder, clip, clip_vision, query="un caf\u00e9, \u72d7")
    assert [word.text for word in subject[0].words] == ["un", "caf\u00e9", "\u72d7"]
    _, mask = nodes["SSR_SubjectAttentionMap"].execute(subject, golden.picture(64, 48, 0), word="caf\u00e9").args
    assert mask.max() == 1.0
