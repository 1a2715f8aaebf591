"""How maps are shown: lit where something looks, dark elsewhere, a line between; the same in pictures and in the browser."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from support.subjects import make

from ssr_core import maps
from ssr_core.sheet import heat_picture

HEAT_JS = Path(__file__).parents[2] / "web" / "lib" / "heat.js"
SIDE = 128


def painted(values, grid, side=SIDE):
    """What heat.js paints of a map of bytes: shade and line, [side, side, 4] each. Something that only keeps what is put on it stands for
    the browser's canvas."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no node found: install Node.js to compare the look in the browser")
    script = f"""
        const context = (canvas) => ({{
            createImageData: (width, height) => ({{ width, height, data: new Uint8ClampedArray(4 * width * height) }}),
            putImageData: (image, x, y) => (canvas.painted = [image.width, image.height, x, y, Array.from(image.data)]),
        }});
        globalThis.document = {{ createElement: () => {{ const made = {{}}; made.getContext = () => context(made); return made; }} }};
        const source = {json.dumps(HEAT_JS.read_text(encoding="utf-8"))};
        const heat = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
        const lit = Uint8Array.from({json.dumps(values)});
        const canvases = [heat.shadePicture(lit, {grid}, {side}), heat.linePicture(lit, {grid}, heat.LINE, {side})];
        console.log(JSON.stringify(canvases.map(({{ width, height, painted }}) => [width, height, ...painted])));
    """
    ran = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, timeout=60, check=True)
    layers = json.loads(ran.stdout)
    assert [places for *places, _ in layers] == [[side] * 4 + [0, 0]] * 2
    return [torch.tensor(pixels).view(side, side, 4) / 255 for *_, pixels in layers]


def composed(picture, shade, line, opacity):
    """The canvas of web/lib/drawing.js: the shade twice, then the line. picture: [side, side, 3]."""
    for _ in range(2):
        picture = picture * (1 - opacity * shade[..., 3:])
    return torch.lerp(picture, line[..., :3], min(1.0, 2 * opacity) * line[..., 3:])


def spots(grid=16, seed=0):
    """A map as encoders make them, [grid, grid]: a few patches far above their neighbours, little elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    heat = torch.rand(grid, grid, generator=generator) * 0.01
    heat[3:8, 9:14] += torch.rand(5, 5, generator=generator) ** 4
    heat[3, 9] = 1.0
    return heat / heat.max()


@pytest.mark.parametrize("opacity", [0.25, 0.6, 1.0])
def test_the_browser_shows_a_map_over_a_picture_as_python_does(opacity, monkeypatch):
    values = maps.light(spots()).mul(255).round()  # what hosts/comfyui/view.py sends
    monkeypatch.setattr(maps, "light", lambda heat: values / 255)
    picture = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    found = composed(picture, *painted(values.int().flatten().tolist(), 16), opacity)
    torch.testing.assert_close(found, maps.overlay(picture, spots(), opacity), rtol=0, atol=1.5 / 255)


def test_the_browser_takes_patches_row_by_row():
    shade, _ = painted([0, 255, 0, 0], 2)
    assert shade[0, -1, 3] == 0
    assert shade[0, 0, 3] == shade[-1, -1, 3] == 1


def test_a_hot_corner_is_lit_in_that_corner_of_the_overlay():
    attention = torch.zeros(5, 17)
    attention[:, 1 + 3] = 1  # the last patch of the first row of 4 x 4, behind CLS
    overlay, _ = maps.attention_map(make(attention=attention).map(), torch.ones(480, 640, 3), opacity=1.0)
    top_right, others = overlay[0, :10, 550], torch.cat([overlay[0, :10, 90], overlay[0, -10:, 90], overlay[0, -10:, 550]])
    assert top_right.min() == 1
    assert others.max() == 0


def test_a_line_runs_between_what_is_lit_and_what_is_dark_and_nowhere_else():
    heat = torch.zeros(16, 16)
    heat[:, 8:] = 1
    overlay = maps.overlay(torch.zeros(160, 160, 3), heat, 0.6)
    inked = (overlay - torch.tensor(maps.LINE)).abs().amax(dim=-1) < 0.01  # [160, 160]
    columns = inked.nonzero()[:, 1].unique().tolist()
    assert columns == [79, 80]
    assert inked[:, 79:81].all()


def test_the_darker_half_of_a_map_is_in_the_dark_and_what_is_hottest_in_full_light():
    lit = maps.light(torch.linspace(0, 1, 100).view(10, 10) ** 6).flatten()  # far above the rest at its peak, as attention is
    assert lit[:50].max() == 0
    assert lit[91:].min() == 1
    assert (lit[1:] >= lit[:-1]).all()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
def test_a_mask_is_lit_as_it_is(share):
    mask = (torch.arange(400) < 400 * share).float().view(20, 20)
    assert torch.equal(maps.light(mask), mask)


def test_what_looks_everywhere_is_lit_everywhere_and_what_looks_nowhere_nowhere():
    assert maps.light(torch.full((4, 4), 0.3)).min() == 1
    assert maps.light(torch.zeros(4, 4)).max() == 0


def test_opacity_zero_leaves_the_picture_and_more_of_it_darkens_more():
    picture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(2))
    heat = torch.zeros(8, 8)
    heat[:4, :4] = 1
    assert torch.equal(maps.overlay(picture, heat, 0.0), picture)
    darkness = [maps.overlay(picture, heat, opacity)[24:, 24:].mean().item() for opacity in (0.2, 0.6, 1.0)]
    assert darkness == sorted(darkness, reverse=True)
    assert darkness[-1] == 0


def test_a_queried_object_stands_out_of_twenty_drawn_scenes():
    """Of its pixels at least a quarter are at least twice as bright as the median outside it, in each scene."""
    from ssr_core.hosts.diffusers import ssr
    from ssr_core.hosts.diffusers.load import load_base
    from ssr_core.methods.ssr import formats
    from ssr_core.mini import files
    from ssr_core.mini.scene import random_cast, random_scene

    base = load_base(files.MINI)
    encoder = formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=next(base.unet.parameters()).dtype)
    shares = []
    for number in range(20):
        rng = random.Random(f"map/{number}")
        scene = random_scene(rng, random_cast(rng, 3, held_out=True))
        queried = rng.randrange(3)
        (subject,) = ssr.encode(base, encoder, scene.drawn.picture, scene.things[queried].instance.kind)
        shown = heat_picture(subject.map())
        mask = np.asarray(scene.drawn.masks[queried]) > 127
        brightness = np.asarray(shown.resize(mask.shape[::-1]).convert("L"), dtype=float)
        shares.append(float((brightness[mask] >= 2 * np.median(brightness[~mask])).mean()))
    assert min(shares) >= 0.25, shares
