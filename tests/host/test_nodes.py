"""The nodes as the host sees them: schemas, defaults, files, and what importing them brings in."""

import re
import subprocess
import sys

import pytest
from support import comfy_host

IDS = {
    "SSR_LoadModels", "SSR_ExamplePicture",
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

METHODS = ("SSR", "MIP", "LASR", "ELITE")
"""Ids of a method's nodes end in its name, but for the SSR-Encoder's; they stand in a category of that name."""


def test_ids_and_order_of_widgets_never_change(nodes):
    """Workflows store ids by name and widget values by position: this table is the pack's public interface."""
    assert nodes.keys() == IDS, f"add to IDS and positions here, or give back: {nodes.keys() ^ IDS}"
    positions = {
        "SSR_LoadModels": ["encoder_file", "layers_file", "clip_vision_file"],
        "SSR_ExamplePicture": ["marked"],
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
        "SSR_MiniScene": ["scene", "objects", "background", "marked", "pictures"],
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


GROUPS = {
    "tools": {"SSR_SelectByPoints", "SSR_RecordFootprint", "SSR_SubjectFootprint", "SSR_InspectModel"},
    "examples": {"SSR_LoadMini", "SSR_MiniScene", "SSR_ExamplePicture"},
}
"""Nodes that serve every method; the others stand under their own."""


def test_every_input_and_output_explains_itself(nodes):
    for name, node in nodes.items():
        schema = node.GET_SCHEMA()
        groups = [word for word in METHODS if name.endswith((word, f"{word}Adapter"))]
        groups += [group for group, names in GROUPS.items() if name in names]
        expected = f"SSR-Encoder/{(groups or ['SSR'])[0]}"
        assert schema.category == expected, f"{name}: its id says {expected}; a new method's name goes into METHODS here"
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
    assert set(colours) == set(wires), "colours stand in web/ssr_wires.js, wires in nodes/wires.py"
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
