"""The numbers of hqhQAQ/MIP-Adapter through diffusers: a tiny SDXL UNet, and the authors' whole generate()."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from support import golden_mip as golden
from support import golden_recipe

from ssr_core.hosts.diffusers import attach, generate, mip
from ssr_core.methods.mip.encode import References


@pytest.mark.parametrize("name", golden.names("unet"))
def test_a_whole_unet_with_objects(name, monkeypatch):
    told = golden.case(name)["params"]
    model = golden.fill(name, UNet2DConditionModel(**told["diffusers_config"]), "unet.")
    latents, text = golden.given(name, "latent", (2, 4, 16, 16)), golden.given(name, "text", (2, 77, 96))
    added = {"text_embeds": golden.given(name, "pooled", (2, 64)), "time_ids": torch.tensor([told["time_ids"]] * 2)}

    def predict():
        return model(latents, told["timestep"], text, added_cond_kwargs=added).sample

    weights, at = {}, attach.Attachment.at

    def spy(attachment, layer, *known):
        branches = at(attachment, layer, *known)
        weights[layer.diffusers_name.removesuffix(".attn2")] = torch.stack(
            [branch.weight[:, 0, :, 0] for branch in branches], dim=1
        )
        return branches

    monkeypatch.setattr(attach.Attachment, "at", spy)
    # The case's two rows have latents of their own, which no pipeline hands over.
    monkeypatch.setattr("ssr_core.hosts.diffusers.sets.sides_of", lambda *call: (0, 1))
    golden.check(name, "noise_pred_no_adapter", predict())
    with mip.objects_attached(model, golden.adapter(name), golden.objects(name), told["scale"]):
        golden.check(name, "noise_pred", predict())
    assert all(type(module.processor) is AttnProcessor2_0 for module in model.modules() if hasattr(module, "processor"))
    if told["objects"] > 1:
        checked = [key for key in golden.case(name)["shapes"] if key.startswith("merge_weight@")]
        assert len(checked) == 4
        for key in checked:
            golden.check(name, key, weights[key.removeprefix("merge_weight@")])


@pytest.mark.parametrize("name", golden.names("pipeline"))
def test_the_authors_whole_generation(name, monkeypatch):
    told = golden.case(name)["params"]
    base, adapter = golden.base(name), golden.adapter(name)
    pictures = iter(
        Image.fromarray(golden_recipe.picture(golden.case(name)["case_seed"], key, 224, 224))
        for key in golden.reference_keys(name)
    )
    sets = [
        tuple(
            mip.encode(base, adapter, References([next(pictures) for _ in range(count)]), entity)
            for entity, count in zip(entities, counts, strict=True)
        )
        for entities, counts in zip(told["entity_names"], told["images_per_object"], strict=True)
    ]
    tokens = torch.stack([one.tokens for of_prompt in sets for one in of_prompt])
    golden.check(name, "averaged_tokens", tokens)

    prompts = [prompt for prompt in told["prompts"] for _ in range(told["num_samples"])]
    repeated = [of_prompt for of_prompt in sets for _ in range(told["num_samples"])]
    names = [
        torch.stack([one.name_embeds[0] if side else one.null_name_embeds[0] for one in of_prompt])
        for side in (0, 1)
        for of_prompt in repeated
    ]
    golden.check_rows(name, "entity_text_embeds", torch.stack(names), row=1)
    base.noise_schedule = golden.schedule(told["scheduler"])
    pipe = generate.pipeline(base, "euler")
    predicted = []
    pipe.unet.register_forward_hook(lambda module, args, result: predicted.append(result[0]))
    latents = mip.sample(
        pipe,
        adapter,
        repeated,
        prompts,
        golden.given(name, "latents", (2, 4, 16, 16)),
        manner=told["scale"],
        negative=told["negative_prompt"],
        steps=told["steps"],
        guidance=told["guidance_scale"],
    )
    golden.check(name, "noise_pred_first", predicted[0])
    golden.check(name, "latents_final", latents)
