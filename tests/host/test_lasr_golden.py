"""askerlee/AdaFace-dev's numbers of a whole UNet (tests/golden/data/lasr) through the real host: its UNet, its CLIP, its batches."""

import pytest
import torch
from support import comfy_host, golden_lasr, learned, tiny
from support.golden_lasr_steps import check_training_steps


class Executor:
    """Stands for the rest of the host's APPLY_MODEL chain: the UNet at given timesteps instead of sigmas."""

    def __init__(self, base, text, steps):
        self.class_obj, self.text, self.steps = base, text, steps

    def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
        return self.class_obj.diffusion_model(latent, self.steps, context=self.text, transformer_options=options)


def subject_of(case):
    """The case's subject as the host's own classes hold it."""
    core = comfy_host.part("ssr_core.methods.lasr.subject")
    stated = case["subject"]
    made = golden_lasr.embedder(case["seed"], stated["n_init"], stated["rank"], golden_lasr.TINY)
    layout = comfy_host.part("ssr_core.layout").UNetLayout(**tiny.LAYOUT)
    shapes = comfy_host.part("ssr_core.methods.lasr.embedder").EmbedderShapes(layout, 768, stated["n_init"], stated["rank"])
    return core.LasrSubject(shapes, core.weights_of(made), "z", stated["token_id"])


def clip_of(case, folder):
    """With the case's weights."""
    made = tiny.clip(folder / "config.json", {**tiny.CLIP_CONFIG, **case["clip"]})
    weights = case.get("clip_seed", case["seed"])
    golden_lasr.fill(made.cond_stage_model.clip_l.transformer, weights, lambda name: f"clip.{name}")
    return made


@pytest.mark.parametrize("name", golden_lasr.of_kind("unet_forward"))
def test_a_whole_unet_with_a_context_for_every_layer(name, tmp_path):
    case = golden_lasr.cases()[name]
    seed, batch = case["seed"], case["batch"]
    clip = clip_of(case, tmp_path)
    subject, patcher = subject_of(case), learned.golden_unet(seed)
    positive, negative = learned.prompt(clip, (subject,), case["prompt"]), learned.plain(clip, case["negative"])
    riding = positive[0][1]["model_conds"]["ssr_encoder_lasr"].cond
    ids = torch.cat([torch.zeros(batch, 1, dtype=torch.int64), riding.expand(batch, 1)])
    text = torch.cat([negative[0][0].expand(batch, -1, -1), positive[0][0].expand(batch, -1, -1)])
    latents = golden_lasr.raw(seed, "x", *case["x"]["shape"]).repeat(2, 1, 1, 1)
    steps = torch.tensor(case["timesteps"]).repeat(2)
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.context"), comfy_host.part("ssr_core.schedule").Manner

    def predicted(alpha):
        part = learned.host().LasrContexts((subject,), learned.text_of(clip), manner(alpha))
        with torch.inference_mode():
            return host.bind((part,))(
                Executor(patcher.model, text, steps), latents, steps, None, None, None, {"cond_or_uncond": [1, 0]},
                ssr_encoder_lasr=ids,
            )  # fmt: skip

    golden_lasr.assert_close(predicted(case["lasr_emb_weight"]), name, "eps")
    golden_lasr.assert_close(predicted(0.0), name, "eps_static_only")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", golden_lasr.of_kind("train_steps"))
def test_training_steps_with_all_gradients(name, checkpointing, tmp_path):
    case = golden_lasr.cases()[name]
    host = comfy_host.part("ssr_core.hosts.comfyui.learning")
    models = host.HostModels(learned.golden_unet(case["seed"]), clip_of(case, tmp_path), checkpointing=checkpointing)
    with models.opened(0):
        check_training_steps(name, models)
