"""Files as askerlee/AdaFace-dev writes them: its module classes by name, around a subject of random numbers."""

import sys
import types
from contextlib import contextmanager

import torch
from torch import nn

from ssr_core.layout import SD15
from ssr_core.methods.lasr.embedder import EmbedderShapes, SubjectEmbedder

PACKAGES, MANAGER = ("ldm", "ldm.modules"), "ldm.modules.embedding_manager"
BLOCKS = (1, 2, 4, 5, 7, 8, 12, *range(16, 25))
WIDTHS = [
    4, *[320] * 4, *[640] * 3, *[1280] * 12, *[640] * 3, *[320] * 2,
]  # fmt: skip


@contextmanager
def authors_modules():
    """Their classes where pickles look for them; gone afterwards, as on a machine without their code."""
    names = ("StaticLayerwiseEmbedding", "LASREmbedding", "AdaEmbedding", "LNCat2", "MaskedAvgPool2d")
    for package in PACKAGES:
        sys.modules[package] = types.ModuleType(package)
    module = sys.modules[MANAGER] = types.ModuleType(MANAGER)
    for name in names:
        setattr(module, name, type(name, (nn.Module,), {"__module__": MANAGER, "__qualname__": name}))
    try:
        yield module
    finally:
        for name in (*PACKAGES, MANAGER):
            del sys.modules[name]


def embedder(words=1, rank=3):
    made = SubjectEmbedder(EmbedderShapes(SD15, 768, words, rank))
    generator = torch.Generator().manual_seed(words)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


def content(module, made, placeholder="z", token=345, adaptive="LASREmbedding"):
    """What their save() hands to torch.save."""
    static = module.StaticLayerwiseEmbedding()
    static.__dict__.update(N=made.shapes.words, r=made.shapes.rank, NEG=0, has_bias=True)
    for name, value in (*made.static._parameters.items(), *made.static._modules.items()):
        setattr(static, name, value)
    dynamic = getattr(module, adaptive)()
    dynamic.__dict__.update(N=made.shapes.words, r=made.shapes.rank, infeat_dims=WIDTHS)
    dynamic.layer_idx2emb_idx = {block: index for index, block in enumerate(BLOCKS)}
    for name, value in (*made.lasr._parameters.items(), *made.lasr._modules.items()):
        setattr(dynamic, name, value)
    pairs = []
    for pair in made.lasr.layer_lncat2s:
        pairs.append(module.LNCat2())
        pairs[-1].ln1, pairs[-1].ln2 = pair.ln1, pair.ln2
    dynamic.layer_lncat2s = nn.ModuleList(pairs)
    dynamic.avgpool = module.MaskedAvgPool2d()
    dynamic.avgpool.avgpool = nn.AdaptiveAvgPool2d((1, 1))
    params = nn.ParameterDict()
    params[placeholder] = static
    return {
        "string_to_token": {placeholder: torch.tensor(token)},
        "string_to_param": params,
        "string_to_lasr_embedder": nn.ModuleDict({placeholder: dynamic}),
        "lasr_emb_weight": 0.5,
    }


def write(path, change=None, made=None, **options):
    """A file, changed before it is written. change: takes the content and may return another."""
    with authors_modules() as module:
        whole = content(module, made or embedder(), **options)
        if change is not None:
            whole = change(whole) or whole
        torch.save(whole, path)
    return path
