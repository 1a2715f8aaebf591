"""A small encoder in every format that weight files have, and how a file is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssr_core.layout import UNetLayout
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder, fingerprint

SMALL = EncoderConfig(
    layout=UNetLayout(channels=(8, 16), depths=(1, 1), resnets=1, heads=2),
    text_width=6,
    vision_width=10,
    inner_width=8,
    heads=2,
    vision_layers=(1, 2),
)
LAYERS = len(SMALL.layout.layers)


def state(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return {name: tensor.to(dtype) for name, tensor in SSREncoder(SMALL).state_dict().items()}


def official_aligner(ours):
    """pytorch_model.bin, as Xiaojiu-z/SSR_Encoder releases it."""
    renamed = {}
    for name, tensor in ours.items():
        part, _, rest = name.partition(".")
        if part == "aligner" and rest.startswith("norm"):
            renamed[rest] = tensor
        elif part == "aligner":
            renamed[f"aligner.{rest}" if rest in ("to_q.weight", "to_k.weight") else f"aligner.processor.{rest}"] = tensor
    return renamed


def official_layers(ours, number=lambda index: 2 * index + 1, suffix="SSR"):
    """pytorch_model_1.bin, as Xiaojiu-z/SSR_Encoder releases it."""
    renamed = {}
    for name, tensor in ours.items():
        part, _, rest = name.partition(".")
        if part == "layers":
            index, matrix, _ = rest.split(".")
            renamed[f"{number(int(index))}.{matrix}_{suffix}.weight"] = tensor
    return renamed


def pickled(content, path, **options):
    torch.save(content, path, **options)
    return path


def pair(folder, aligner, layers):
    return [pickled(aligner, folder / "pytorch_model.bin"), pickled(layers, folder / "pytorch_model_1.bin")]


def single(folder, weights, name="encoder.safetensors", dtype=torch.float32):
    formats.write(weights, folder / name, dtype)
    return [folder / name]


def prefixed(tensors, prefix="module."):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def as_official_pickles(folder, ours):
    return pair(folder, official_aligner(ours), official_layers(ours))


def as_pair_in_the_other_order(folder, ours):
    return as_official_pickles(folder, ours)[::-1]


def as_old_pickle_protocol(folder, ours):
    old = {"_use_new_zipfile_serialization": False}
    return [
        pickled(official_aligner(ours), folder / "pytorch_model.bin", **old),
        pickled(official_layers(ours), folder / "pytorch_model_1.bin", **old),
    ]


def as_safetensors_twins(folder, ours):
    paths = [folder / "ssr_aligner.safetensors", folder / "ssr_layers.safetensors"]
    save_file(official_aligner(ours), paths[0], metadata={"format": "pt"})
    save_file(official_layers(ours), paths[1])
    return paths


def as_pickle_and_twin(folder, ours):
    return [as_official_pickles(folder, ours)[0], as_safetensors_twins(folder, ours)[1]]


def as_animatediff_numbers(folder, ours):
    return pair(folder, official_aligner(ours), official_layers(ours, number=lambda index: index))


def as_data_parallel(folder, ours):
    return pair(folder, prefixed(official_aligner(ours)), prefixed(official_layers(ours)))


def as_half_data_parallel(folder, ours):
    return pair(folder, official_aligner(ours), prefixed(official_layers(ours)))


def as_the_authors_older_names(folder, ours):
    aligner = {name.replace("aligner.", "ssr_attn."): tensor for name, tensor in official_aligner(ours).items()}
    return pair(folder, aligner, official_layers(ours, suffix="SC"))


def as_both_in_one_file(folder, ours):
    return [pickled(official_aligner(ours) | official_layers(ours), folder / "both.bin")]


def as_our_file(folder, ours):
    return single(folder, formats.Weights(SMALL, ours, fingerprint(ours, SMALL)), dtype=next(iter(ours.values())).dtype)


def refused(paths, *words, config=SMALL):
    """The message with which these files are refused; it names the last of them."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        formats.read(paths, config)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    if paths:
        assert Path(paths[-1]).name in message
    for word in words:
        assert word in message
    return message
