"""Learn Subject (LASR) as a graph runs it: what it takes, and what it refuses before work starts."""

import pytest
import torch
from support import tiny
from support.host_learning import part


def test_the_node_takes_batches_and_lists_with_masks_and_captions(nodes, mini, pictures):
    other = torch.nn.functional.interpolate(pictures[1:].movedim(-1, 1), (96, 160)).movedim(1, -1)
    masks = [torch.ones(1, 128, 128), torch.ones(96, 160)]
    with torch.inference_mode():
        made = nodes["SSR_LearnSubjectLASR"].execute(
            [mini.model], [mini.clip], [mini.vae], [pictures[:1], other], ["star"], ["2"], ["moon"], [2], [1], [5], [0],
            masks=masks, captions=["a moon on a green meadow\nthe moon"], phrases=[1],
        )  # fmt: skip
    (subject,), curve = made.args
    assert subject.learning.words == (("star", 2.0),)
    assert curve.shape == (1, 320, 640, 3)
    assert curve.max() <= 1
    assert made.ui["text"][0].startswith('"moon": 2 steps from 2 pictures.')


def refused(nodes, mini, pictures, expected, **changes):
    given = {
        "words": ["star"], "weights": [""], "placeholder": ["moon"], "steps": [1], "batch_size": [1], "learning_seed": [0],
        "preview_every": [0], "pictures": [pictures],
    } | {name: value if isinstance(value, list) else [value] for name, value in changes.items()}  # fmt: skip
    with torch.inference_mode(), pytest.raises(ValueError, match=expected):
        nodes["SSR_LearnSubjectLASR"].execute(model=[mini.model], clip=[mini.clip], vae=[mini.vae], **given)


def test_the_node_refuses_what_does_not_fit_before_work_starts(nodes, mini, pictures):
    refused(nodes, mini, pictures, "2 weights for 1 words", weights="1 2")
    refused(nodes, mini, pictures, 'weights is "one"', weights="one")
    refused(nodes, mini, pictures, "There are 1 masks for 2 pictures", masks=torch.ones(1, 128, 128))
    refused(nodes, mini, pictures, "The mask of picture 1 is 64 x 64, the picture 128 x 128", masks=torch.ones(2, 64, 64))
    refused(nodes, mini, pictures, "There are 1 captions for 2 pictures", captions="a moon")
    refused(nodes, mini, pictures, "does not have the placeholder", captions="a moon\na star")
    refused(nodes, mini, pictures, "must be one token", placeholder="red moon")
    refused(nodes, mini, pictures, "size is 100; expected a multiple of 64", size=100)
    refused(nodes, mini, pictures, 'kind is "plant"', kind="plant")
    refused(nodes, mini, pictures, "steps is 0", steps=0)


def test_a_model_that_predicts_no_noise_is_refused(mini, clip, model):
    import comfy.model_base

    learning = part("hosts.comfyui.learning")
    other = tiny.model()
    other.model.model_type = comfy.model_base.ModelType.V_PREDICTION
    with pytest.raises(ValueError, match="This MODEL predicts V_PREDICTION"):
        learning.HostModels(other, clip)
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM, ModelSamplingDiscrete

    for patched in (
        ModelSamplingDiscrete().patch(model, "v_prediction", False),
        ModelSamplingDiscrete().patch(model, "lcm", False),
        ModelSamplingContinuousEDM().patch(model, "eps", 120.0, 0.002),
    ):
        with pytest.raises(ValueError, match=r"This MODEL predicts ModelSampling.* take away the node"):
            learning.HostModels(patched[0], clip)
    learning.HostModels(ModelSamplingDiscrete().patch(model, "eps", True)[0], clip)
    found = learning.HostModels(model, clip)
    assert found.layout == part("layout").UNetLayout(**tiny.LAYOUT)
    with pytest.raises(ValueError, match="width"):
        learning.HostModels(mini.model, clip)


def test_weights_that_are_streamed_are_loaded_whole_in_a_copy(model, clip):
    """Hosts with dynamic VRAM; simulated, since there it takes a GPU."""
    learning = part("hosts.comfyui.learning")

    class Streamed:
        cached_patcher_init = None

        def is_dynamic(self):
            return True

        def clone(self, disable_dynamic=False):
            assert disable_dynamic
            return "whole"

    assert learning._loaded_whole(model, "MODEL") is model
    streamed = Streamed()
    with pytest.raises(ValueError, match=r"This CLIP streams its weights.*--disable-dynamic-vram"):
        learning._loaded_whole(streamed, "CLIP")
    streamed.cached_patcher_init = (None, ())
    assert learning._loaded_whole(streamed, "CLIP") == "whole"


def test_an_embedding_of_textual_inversion_is_one_of_the_hosts(tmp_path):
    inversion = part("methods.lasr.inversion")
    vector = torch.randn(768, generator=torch.Generator().manual_seed(3))
    inversion.save(vector, tmp_path / "learnt.safetensors")
    clip = tiny.clip(tmp_path / "config.json", tiny.CLIP_CONFIG)
    clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
    tokens = [entry[0] for entry in clip.tokenize("a embedding:learnt on a beach")["l"][0]]
    (found,) = [token for token in tokens if not isinstance(token, int)]
    assert torch.equal(found.flatten(), vector)
