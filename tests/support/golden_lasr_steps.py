"""Training steps of askerlee/AdaFace-dev at 6b1560fa (data/lasr/cases.json), on whatever models a host gives."""

from __future__ import annotations

from typing import Any

import torch
from support import golden_lasr
from support.golden_lasr import assert_close, auto, cases, near, raw

from ssr_core.methods.lasr import losses
from ssr_core.methods.lasr.contexts import (
    Learned,
    adaptive_context,
    adaptive_vectors,
    mixed,
    of_layer,
    prompts_of,
    static_contexts,
)
from ssr_core.methods.lasr.embedder import pooled_features
from ssr_core.methods.lasr.losses import AS_COMMITTED, Contexts, RateSchedule


class CaseModels:
    """A case's models in transformers' and diffusers' classes."""

    half = checkpointing = False
    device = torch.device("cpu")

    def __init__(self, case: dict[str, Any]) -> None:
        self.text, self.unet, self.layout = golden_lasr.TextEncoder(case), golden_lasr.unet(case["seed"]), golden_lasr.TINY
        self.encode, self.embeds, self.ids = self.text, self.text.embeds, golden_lasr.token_ids

    def predict(self, noisy: Any, timesteps: Any, context: Any) -> Any:
        return golden_lasr.run_with_contexts(self.unet, noisy, timesteps, context)


def check_training_steps(name: str, models: Any) -> None:
    """Losses, all 170 gradient norms and what AdamW makes of them, on models as methods/lasr/recipe.py describes them.

    As committed, the adaptive delta compares embeddings that no gradient reaches, so its steps are those without it.
    """
    case = cases()[name]
    seed, stated = case["seed"], case["subject"]
    repaired = case["adaptive_delta_compares"] == "encoder_outputs"
    made = golden_lasr.embedder(seed, stated["n_init"], stated["rank"], golden_lasr.TINY)
    vectors = auto(seed, "init_vectors", case["init_vectors"]["shape"])
    subjects = [Learned(made, stated["token_id"])]
    rate, factors = case["optimizer"], case["lr_factors"]
    schedule = RateSchedule(
        factors["warm_up_steps"], factors["max_decay_steps"], factors["lr_start"], factors["lr_max"], factors["lr_min"]
    )
    optimizer = torch.optim.AdamW(made.parameters(), rate["lr"], tuple(rate["betas"]), rate["eps"], rate["weight_decay"])
    allowed = case["tolerance"]

    def encoded(texts):
        ids = models.ids(texts)
        prompts = prompts_of(ids, models.embeds(ids), [stated["token_id"]])
        return prompts, static_contexts(models.encode, prompts, subjects)

    for step in case["steps"]:
        number, twice = step["step"], step["adaptive_delta"]
        latents, noise = (raw(seed, f"{part}.{number}", 2, 4, 16, 16) for part in ("z0", "noise"))
        steps = torch.tensor(step["timesteps"])
        part = golden_lasr.mask(step["mask_rects_y0_y1_x0_x1"], 16, 16)
        groups = {key: encoded(texts) for key, texts in step["prompts"].items()}
        (single, s), (composed, s_composed) = groups["subject_single"], groups["subject_composition"]
        embeds, marks = single.embeds[:2], single.marks[:, :2]
        static = s[:2]
        if twice:
            embeds = torch.cat([embeds, composed.embeds])
            marks, static = torch.cat([marks, composed.marks], dim=1), torch.cat([static, s_composed])
        prompts = type(single)(embeds, marks, torch.arange(len(embeds)))
        copies = len(embeds) // 2
        adaptive = []

        def contexts(
            layer, features, time, prompts=prompts, static=static, part=part, step=step, copies=copies, adaptive=adaptive
        ):
            pooled = pooled_features(features, part.repeat(copies, 1, 1))
            adaptive.append(adaptive_context(models.encode, prompts, adaptive_vectors(subjects, layer, pooled, time)))
            return mixed(of_layer(static, layer), adaptive[-1], prompts.marked, step["adaptive_weight_per_layer"][layer])

        input_ = golden_lasr.noisy(latents, noise, steps).repeat(copies, 1, 1, 1)
        predicted = models.predict(input_, steps.repeat(copies), contexts)[:2]
        compared = Contexts(*torch.stack(adaptive, dim=1).chunk(2)) if twice and repaired else None
        delta = losses.composition_delta(
            Contexts(s, s_composed), Contexts(groups["class_single"][1], groups["class_composition"][1]), compared, AS_COMMITTED
        )
        simple, kept_near = losses.reconstruction(predicted, noise, part), losses.regulariser(made, vectors).total
        total = simple + case["embedding_reg_weight"] * kept_near + case["composition_delta_reg_weight"] * delta.total
        for group in optimizer.param_groups:
            group["lr"] = rate["lr"] * schedule.factor(number)
        assert optimizer.param_groups[0]["lr"] == near(step["lr"], 1e-6)
        optimizer.zero_grad()
        total.backward()

        found = {"loss_simple": simple, "loss_emb_reg": kept_near}
        if repaired or not twice:
            found |= {"loss": total, "loss_comp_delta_reg": delta.total}
            if twice:
                assert delta.adaptive.item() == near(
                    step["delta_before_scaling"]["adaptive"], allowed["delta_before_scaling"]["rtol"]
                )
        for key, loss in found.items():
            assert loss.item() == near(step["losses"][key], allowed["losses"]["rtol"]), key
        assert delta.static.item() == near(step["delta_before_scaling"]["static"], allowed["delta_before_scaling"]["rtol"])
        assert len(step["grad_l2"]) == 170
        for key, parameter in made.named_parameters():
            norm = parameter.grad.norm().item()
            assert norm == near(step["grad_l2"][key], allowed["grad_l2"]["rtol"], allowed["grad_l2"]["atol"]), key
        optimizer.step()
        for key, parameter in made.named_parameters():
            assert parameter.norm().item() == near(step["param_l2_after"][key], allowed["param_l2_after"]["rtol"]), key
    for key in case["expected"]:
        assert_close(made.get_parameter(key.removeprefix("after_last_step.")), name, key)
