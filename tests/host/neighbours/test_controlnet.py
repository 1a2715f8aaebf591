"""The host's own ControlNet: it sees the prompt, and the subject's tokens only where asked."""

import pytest
import torch
from support import neighbours, tiny
from support.golden import relative_error


@pytest.fixture
def controlled(control_net, hint):
    """Positive and negative with the ControlNet."""
    from nodes import ControlNetApplyAdvanced

    sides = neighbours.run(
        ControlNetApplyAdvanced,
        positive=tiny.cond(11), negative=tiny.cond(12), control_net=control_net, image=hint, strength=0.8, start_percent=0.0,
        end_percent=1.0,
    )  # fmt: skip
    return dict(zip(("positive", "negative"), sides, strict=True))


def test_both_act_and_the_controlnet_sees_the_prompt_only(model, encoder, subject, control_net, controlled):
    patched = tiny.apply(model, encoder, subject, 0.65)
    plain, only_ours = tiny.sample(model), tiny.sample(patched)
    both = tiny.sample(patched, **controlled)
    for lacking in (only_ours, tiny.sample(model, **controlled)):
        assert relative_error(both, lacking) > 1e-3
    assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(patched), only_ours)
    for context in control_net.control_model.seen:
        assert torch.equal(context, torch.cat([tiny.cond(12)[0][0], tiny.cond(11)[0][0]]))


def test_it_sees_the_subject_where_asked_and_the_unet_does_not_see_it_twice(
    model, encoder, subject, control_net, controlled, nodes
):
    silent = subject[0].scaled(0.0)
    both = (subject[0].scaled(0.5), silent)
    shown = nodes["SSR_ShowToControlNet"].execute(controlled["positive"], controlled["negative"], both).args
    patched = tiny.apply(model, encoder, both, 0.65)
    seen_by_unet = []

    def spy(query, context, value, extra_options):
        seen_by_unet.append(context.shape[1])
        return query, context, value

    patched.set_model_attn2_patch(spy)
    tiny.sample(patched, positive=shown[0], negative=shown[1], steps=1)
    (context,) = control_net.control_model.seen  # [negative, positive]
    assert torch.equal(context[0], torch.cat([tiny.cond(12)[0][0][0], subject[0].null_tokens]))
    assert torch.equal(context[1], torch.cat([tiny.cond(11)[0][0][0], 0.5 * subject[0].tokens]))
    assert set(seen_by_unet) == {77}


def test_nobody_to_show_leaves_the_prompts_as_they_are(subject, controlled, nodes):
    silent = (subject[0].scaled(0.0),)
    shown = nodes["SSR_ShowToControlNet"].execute(controlled["positive"], controlled["negative"], silent).args
    assert shown == (controlled["positive"], controlled["negative"])


def test_a_prompt_of_another_clip_is_refused(subject, nodes):
    wide = [[torch.zeros(1, 77, 2048), {}]]
    with pytest.raises(ValueError, match="The prompt has width 2048 and the subject's tokens 768"):
        nodes["SSR_ShowToControlNet"].execute(wide, wide, subject)
