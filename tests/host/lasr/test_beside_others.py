"""Learned subjects beside other packs, ControlNets and the SSR-Encoder on one MODEL."""

import torch
from support import comfy_host, learned, tiny
from support.golden import relative_error


def test_beside_the_ssr_encoder_in_either_order(model, encoder, subject, clip, cat, positive, negative):
    first = learned.apply(tiny.apply(model, encoder, subject), clip, (cat,))
    second = tiny.apply(learned.apply(model, clip, (cat,)), encoder, subject)
    drawn = learned.sampled(first, positive, negative)
    assert torch.equal(drawn, learned.sampled(second, positive, negative))
    assert relative_error(drawn, learned.sampled(learned.apply(model, clip, (cat,)), positive, negative)) > 1e-3


def test_other_packs_patches_see_the_layers_context_and_change_what_enters_a_block(model, clip, negative):
    """Theirs on what enters a block come before ours, theirs on the text after."""
    itself = (learned.itself(clip),)
    text = "a photo of a z"

    def foreign(patcher):
        patcher = patcher.clone()
        patcher.set_model_output_block_patch(lambda h, hsp, options: (h * 1.1, hsp))
        patcher.set_model_attn2_patch(lambda n, context, value, options: (n, context * 0.9, value))
        patcher.set_model_attn2_replace(
            lambda q, k, v, options: torch.nn.functional.softmax(q, -1) + v.mean(1, keepdim=True), "output", 5
        )
        return patcher

    expected = learned.sampled(foreign(model), learned.plain(clip, text), negative)
    prompt = learned.prompt(clip, itself, text)
    for patcher in (foreign(learned.apply(model, clip, itself)), learned.apply(foreign(model), clip, itself)):
        assert relative_error(learned.sampled(patcher, prompt, negative), expected) <= learned.EXACT * 10


def test_a_unet_that_is_run_in_another_way_is_reported(patched, positive, negative, model, clip, cat, monkeypatch, caplog):
    """Where what enters a block is not told, the adaptive part is left out."""
    context_patches = comfy_host.part("ssr_core.hosts.comfyui.context_patches")
    monkeypatch.setattr(context_patches, "note_down", lambda features, options: features)
    drawn = learned.sampled(patched, positive, negative)
    assert "is not known, since another node runs the UNet in its own way" in caplog.text
    assert torch.isfinite(drawn).all()


def test_another_pack_may_enlarge_the_batch_in_the_middle_of_a_pass(patched, positive, negative):
    """As packs with regional prompts do: theirs comes after ours, so it repeats the layer's context."""

    def double(query, context, value, options):
        return torch.cat([query, query]), torch.cat([context, context]), torch.cat([value, value])

    enlarged = patched.clone()
    enlarged.set_model_attn2_patch(double)
    enlarged.set_model_attn2_output_patch(lambda out, options: out.chunk(2)[0])
    assert (
        relative_error(learned.sampled(enlarged, positive, negative), learned.sampled(patched, positive, negative))
        <= learned.EXACT
    )


class ControlNet:
    """What the host asks of one, with residuals that depend on the text it sees."""

    previous_controlnet = extra_hooks = None
    multigpu_clones: dict = {}  # noqa: RUF012

    def __init__(self):
        self.seen = []

    def get_control(self, latent, timestep, cond, count, options):
        self.seen.append(cond["c_crossattn"])
        amount = cond["c_crossattn"].mean(dim=(1, 2)).view(-1, 1, 1, 1)
        return {"middle": [(5 + 50 * amount) * torch.ones(len(latent), 128, 2, 2)]}

    def get_extra_hooks(self):
        return []

    def get_models(self):
        return []

    def inference_memory_requirements(self, dtype):
        return 0

    def pre_run(self, model, percent_to_timestep):
        pass

    def cleanup(self):
        pass


def test_a_controlnet_sees_an_ordinary_prompt_and_steers_as_without(model, clip, negative):
    net, itself = ControlNet(), (learned.itself(clip),)

    def steered(conds):
        return [[tensor, {**options, "control": net}] for tensor, options in conds]

    text = "a photo of a z"
    expected = learned.sampled(model, steered(learned.plain(clip, text)), steered(negative))
    drawn = learned.sampled(learned.apply(model, clip, itself), steered(learned.prompt(clip, itself, text)), steered(negative))
    assert relative_error(drawn, expected) <= learned.EXACT * 10
    assert relative_error(drawn, learned.sampled(model, learned.plain(clip, text), negative)) > 1e-3
    assert {len(seen) for seen in net.seen} == {2}
