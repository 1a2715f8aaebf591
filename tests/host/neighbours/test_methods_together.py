"""Methods of this pack on one MODEL: each acts on its own prompt, in either order."""

import pytest
import torch
from support import learned
from support.golden import relative_error


@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_elite_and_lasr_each_act_on_their_own_prompt_of_a_sampling(known, clip, cfg):
    """ELITE's keys and values of text are those of its MODEL, so they act on a learned subject's prompt as on any other."""
    (elite, plain, _), (lasr, *_) = known("elite"), known("lasr")

    def drawn(model, prompt):
        return elite.draw(model, cfg=cfg, positive=[*elite.positive, *prompt])

    both = drawn(lasr.apply(elite.apply(plain)), lasr.positive)
    assert torch.equal(both, drawn(elite.apply(lasr.apply(plain)), lasr.positive))
    text = "a photo of a z on a beach"
    ordinary = drawn(elite.apply(plain), learned.plain(clip, text))
    assert relative_error(both, ordinary) > 1e-3
    itself = (learned.itself(clip),)  # a subject whose prompt is the ordinary one
    model = learned.apply(elite.apply(plain), clip, itself)
    assert relative_error(drawn(model, learned.prompt(clip, itself, text)), ordinary) <= learned.EXACT * 10


@pytest.mark.parametrize("name", ["elite", "lasr"])
def test_a_branch_of_the_ssr_encoder_beside_a_prompt_of_another_method(known, name):
    (method, plain, alone), (ssr, *_) = known(name), known("ssr")
    both = method.draw(ssr.apply(method.apply(plain)))
    assert torch.equal(both, method.draw(method.apply(ssr.apply(plain))))
    assert relative_error(both, alone) > 1e-3
    assert relative_error(both, method.draw(ssr.apply(plain), positive=method.other)) > 1e-3
