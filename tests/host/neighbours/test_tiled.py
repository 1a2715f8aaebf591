"""Packs that draw in tiles: the UNet sees parts of the latent, and nobody says which part or how many tiles a batch holds."""

import pytest
import torch
from support import comfy_host, methods, neighbours, tiny
from support.golden import relative_error

DIFFUSION, SAMPLER = "ComfyUI-TiledDiffusion", "ComfyUI_TiledKSampler"
SIZE = (16, 32)


@pytest.fixture
def left():
    """White in the left half of the whole picture."""
    region = torch.zeros(1, 64, 128)
    region[..., :64] = 1.0
    return region


@pytest.fixture
def tiled():
    """A MODEL that draws in tiles of 16 x 16 latent cells; tiles: how many go into one batch."""

    def tile(model, tiles, method="MultiDiffusion"):
        return neighbours.run(
            neighbours.nodes(DIFFUSION)["TiledDiffusion"],
            model=model, method=method, tile_width=128, tile_height=128, tile_overlap=32, tile_batch_size=tiles,
        )[0]  # fmt: skip

    return tile


@neighbours.needs(DIFFUSION)
@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers"])
def test_tiles_of_one_batch_are_drawn_as_one_by_one(model, encoder, subject, tiled, left, method):
    """A batch of tiles holds negative and positive of the first tile, then those of the second, under a list of one pair."""
    patched = tiny.apply(model, encoder, subject, 0.65, region=left)
    one_by_one, together = (tiny.sample(tiled(patched, tiles, method), size=SIZE, steps=1) for tiles in (1, 4))
    assert relative_error(together, one_by_one) <= 1e-5
    assert relative_error(together, tiny.sample(tiled(model, 4, method), size=SIZE, steps=1)) > 1e-3


@neighbours.needs(DIFFUSION)
@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_tiles_of_one_batch_with_other_methods_are_drawn_as_one_by_one(beside, tiled):
    method, model, _ = beside
    patched = method.apply(model)
    one_by_one, together = (method.draw(tiled(patched, tiles), size=SIZE, steps=1) for tiles in (1, 4))
    assert relative_error(together, one_by_one) <= 1e-5
    assert relative_error(together, method.draw(tiled(model, 4), size=SIZE, steps=1)) > 1e-3


@neighbours.needs(DIFFUSION)
@pytest.mark.parametrize("tiles", [1, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_region_lies_where_it_lies_in_the_whole_picture(model, encoder, subject, tiled, left, tiles, batch):
    """Columns that only tiles on the right draw keep their bits; tiles there would otherwise hold the left half of the mask."""
    without = tiny.sample(tiled(model, tiles), size=SIZE, steps=1, cfg=1.0, batch=batch)
    patched = tiny.apply(model, encoder, subject, 1.0, region=left)
    effect = (tiny.sample(tiled(patched, tiles), size=SIZE, steps=1, cfg=1.0, batch=batch) - without).abs().amax(dim=(0, 1, 2))
    assert effect[:16].min() > 1e-3
    assert effect[-4:].max() == 0.0


@neighbours.needs(DIFFUSION)
@pytest.mark.parametrize("beside", ["mip"], indirect=True)
def test_a_region_of_objects_lies_where_it_lies_in_the_whole_picture(beside, tiled, left):
    method, model, _ = beside
    patched = method.apply(model, 1.0, region=left)
    drawn, without = (method.draw(tiled(one, 4), size=SIZE, steps=1, cfg=1.0) for one in (patched, model))
    effect = (drawn - without).abs().amax(dim=(0, 1, 2))
    assert effect[:16].min() > 1e-3
    assert effect[-4:].max() == 0.0


def test_tiles_that_are_nowhere_in_the_picture_are_reported(model, encoder, subject, left, caplog):
    """Some methods roll the picture before they cut tiles."""
    patched = tiny.apply(model, encoder, subject, 1.0, region=left)

    class Rolled:
        def __call__(self, model_function, args):
            rolled = args["input"].roll(5, dims=-1)[..., :16]
            drawn = model_function(rolled, args["timestep"], **args["c"])
            return torch.cat([drawn, drawn], dim=-1)

    patched.set_model_unet_function_wrapper(Rolled())
    drawn = tiny.sample(patched, size=SIZE, steps=2)
    assert torch.isfinite(drawn).all()
    warnings = [record.getMessage() for record in caplog.records if "not to be found in it" in record.getMessage()]
    assert len(warnings) == 1


@neighbours.needs(DIFFUSION)
def test_the_footprint_of_a_tiled_picture_covers_all_of_it(model, encoder, subject, tiled, left):
    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording

    def footprint(**options):
        patched, recorder = recording(tiny.apply(model, encoder, subject, 1.0, **options))
        tiny.sample(tiled(patched, 4), size=SIZE, steps=1)
        ((found,),) = recorder.footprint.maps()
        return found

    everywhere, half = footprint(), footprint(region=left)
    assert everywhere.shape == half.shape == SIZE
    assert everywhere.min() > 0.05
    assert half[:, :16].mean() > 10 * half[:, 18:].mean()


@pytest.fixture
def evolve():
    """A MODEL that draws frames in windows of eight."""
    ade = neighbours.nodes("ComfyUI-AnimateDiff-Evolved")

    def windows(model):
        options = {"context_length": 8, "context_overlap": 2, "fuse_method": "flat"}
        context = neighbours.run(ade["ADE_StandardStaticContextOptions"], **options)[0]
        return neighbours.run(
            ade["ADE_UseEvolvedSampling"], model=model, beta_schedule="use existing", context_options=context
        )[0]  # fmt: skip

    return windows


@neighbours.needs(DIFFUSION)
@neighbours.needs("ComfyUI-AnimateDiff-Evolved")
@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_tiles_of_an_animation_in_context_windows(model, encoder, subject, tiled, evolve, left, order):
    """Twelve frames in windows of eight, four tiles a batch: as one tile a batch."""

    def ours(one):
        return tiny.apply(one, encoder, subject, 0.65, region=left)

    patched = evolve(ours(model)) if order == "ours first" else ours(evolve(model))
    one_by_one, together = (tiny.sample(tiled(patched, tiles), size=SIZE, steps=1, batch=12) for tiles in (1, 4))
    assert relative_error(together, one_by_one) <= 1e-5
    without = tiny.sample(tiled(evolve(model), 1), size=SIZE, steps=1, batch=12)
    effect = (one_by_one - without).abs().amax(dim=(0, 1, 2))
    assert effect[:16].min() > 1e-3
    assert effect[-4:].max() == 0.0


@neighbours.needs(DIFFUSION)
@neighbours.needs("ComfyUI-AnimateDiff-Evolved")
@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_tiles_of_an_animation_with_other_methods_are_drawn_as_one_by_one(beside, tiled, evolve):
    method, model, _ = beside
    options = {"size": SIZE, "steps": 1, "batch": 12}
    patched = evolve(method.apply(model))
    one_by_one, together = (method.draw(tiled(patched, tiles), **options) for tiles in (1, 4))
    assert relative_error(together, one_by_one) <= 1e-5
    assert relative_error(method.draw(tiled(method.apply(evolve(model)), 4), **options), together) <= 1e-5
    without = method.draw(tiled(evolve(model), 4), **options)
    assert all(relative_error(drawn, plain) > 1e-3 for drawn, plain in zip(together, without, strict=True))


@neighbours.needs(SAMPLER)
def test_a_sampler_of_tiles_draws_the_subject(model, encoder, subject):
    """Each tile is a sampling of its own there, so a region would lie in every tile."""

    drawn, without = (
        _tiles_sampled(one, tiny.cond(11), tiny.cond(12)) for one in (tiny.apply(model, encoder, subject, 0.65), model)
    )
    assert torch.isfinite(drawn).all()
    assert relative_error(drawn, without) > 1e-3


@neighbours.needs(SAMPLER)
@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_a_sampler_of_tiles_draws_with_other_methods(beside):
    method, model, _ = beside
    drawn, without = (_tiles_sampled(one, method.positive, method.negative) for one in (method.apply(model), model))
    assert torch.isfinite(drawn).all()
    assert relative_error(drawn, without) > 1e-3


def _tiles_sampled(model, positive, negative):
    return neighbours.run(
        neighbours.nodes(SAMPLER)["BNK_TiledKSampler"],
        model=model, seed=1, tile_width=256, tile_height=256, tiling_strategy="simple", steps=1, cfg=5.0, sampler_name="euler",
        scheduler="normal", positive=positive, negative=negative, latent_image={"samples": torch.zeros(1, 4, 32, 40)}, denoise=1.0,
    )[0]["samples"]  # fmt: skip
