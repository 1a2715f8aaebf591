"""The pack's nodes (V3 schema). Thin: they read widgets, call ssr_core, and return.

What their texts call official is Xiaojiu-z/SSR_Encoder: its released pair of files, its ssr_encoder/ssr_encoder.py and infer_*.py.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..ssr_core.hosts.comfyui import folders
from . import migration, templates
from .apply import ApplySubject, ApplySubjectAdvanced
from .combine import CombineLearned, CombineObjects, CombineSubjects
from .controlnet import ShowToControlNet
from .elite import EncodeEliteSubject, LoadELITE, PromptWithEliteSubject
from .elite_apply import ApplyEliteSubject
from .elite_files import LoadEliteSubject, SaveEliteSubject
from .encode import EncodeSubject
from .examples import ExamplePicture
from .footprint import RecordFootprint, SubjectFootprint
from .inspect import InspectModel
from .lasr import ApplyLearned, LoadLearned, PromptWithLearned, SaveLearned
from .lasr_learn import LearnSubject
from .loaders import LoadEncoder
from .maps import SubjectAttentionMap
from .mini import LoadMini, MiniScene
from .mip import EncodeObject, LoadMIPAdapter
from .mip_apply import ApplyObjects
from .mip_files import LoadObjects, SaveObjects
from .models import LoadModels
from .select import SelectByPoints
from .subject_files import LoadSubject, SaveSubject

NODES: list[type[io.ComfyNode]] = [
    LoadModels,
    LoadEncoder,
    EncodeSubject,
    CombineSubjects,
    ApplySubject,
    ApplySubjectAdvanced,
    ShowToControlNet,
    SubjectAttentionMap,
    SelectByPoints,
    RecordFootprint,
    SubjectFootprint,
    InspectModel,
    SaveSubject,
    LoadSubject,
    LoadMini,
    MiniScene,
    ExamplePicture,
    LoadMIPAdapter,
    EncodeObject,
    CombineObjects,
    ApplyObjects,
    SaveObjects,
    LoadObjects,
    LoadLearned,
    CombineLearned,
    PromptWithLearned,
    ApplyLearned,
    SaveLearned,
    LearnSubject,
    LoadELITE,
    EncodeEliteSubject,
    PromptWithEliteSubject,
    ApplyEliteSubject,
    SaveEliteSubject,
    LoadEliteSubject,
]


class Extension(ComfyExtension):
    async def on_load(self) -> None:
        await migration.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        folders.register()
        migration.listen()
        templates.serve_former_names()
        return NODES
