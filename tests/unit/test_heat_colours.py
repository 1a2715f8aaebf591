"""The colours of maps: from dark blue where it is cold to red where it is hot, the same in pictures and in the browser."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from support.subjects import make

from ssr_core import maps

HEAT_JS = Path(__file__).parents[2] / "web" / "lib" / "heat.js"


def painted(values, grid):
    """What heat.js paints of a map of bytes: [grid, grid, 4]. A canvas that only keeps what is put on it stands for the browser's."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no node found: install Node.js to compare the colours in the browser")
    script = f"""
        let painted;
        const context = {{
            createImageData: (width, height) => ({{ width, height, data: new Uint8ClampedArray(4 * width * height) }}),
            putImageData: (image, x, y) => (painted = {{ image, x, y }}),
        }};
        globalThis.document = {{ createElement: () => ({{ getContext: () => context }}) }};
        const source = {json.dumps(HEAT_JS.read_text(encoding="utf-8"))};
        const {{ heatPicture }} = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
        const canvas = heatPicture(Uint8Array.from({json.dumps(values)}), {grid});
        const {{ image, x, y }} = painted;
        console.log(JSON.stringify([canvas.width, canvas.height, image.width, image.height, x, y, Array.from(image.data)]));
    """
    ran = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, timeout=60, check=True)
    *places, pixels = json.loads(ran.stdout)
    assert places == [grid] * 4 + [0, 0]
    return torch.tensor(pixels).view(grid, grid, 4)


def test_cold_is_dark_blue_and_hot_is_red():
    cold, hot = maps.heat_colours(torch.tensor([[0.0, 1.0]]))[0]
    assert cold.mul(255).round().tolist() == [26, 13, 115]
    assert hot.mul(255).round().tolist() == [230, 38, 26]


def test_blue_turns_green_and_then_red():
    strongest = maps.heat_colours(torch.linspace(0, 1, 256)[None])[0].argmax(dim=-1)  # [256], of red, green and blue
    assert strongest.unique_consecutive().tolist() == [2, 1, 0]


def test_between_two_colours_lie_their_mixtures():
    half = maps.heat_colours(torch.tensor([[0.125]]))[0, 0]
    torch.testing.assert_close(half, (maps.GRADIENT[0] + maps.GRADIENT[1]) / 2)
    assert torch.equal(maps.heat_colours(torch.tensor([[0.75]]))[0, 0], maps.GRADIENT[3])


def test_a_hot_corner_is_red_in_that_corner_of_the_overlay():
    attention = torch.zeros(5, 17)
    attention[:, 1 + 3] = 1  # the last patch of the first row of 4 x 4, behind CLS
    overlay, _ = maps.attention_map(make(attention=attention).map(), torch.zeros(480, 640, 3), opacity=1.0)
    top_right, others = overlay[0, :10, 550], torch.cat([overlay[0, :10, 90], overlay[0, -10:, 90], overlay[0, -10:, 550]])
    assert (top_right[:, 0] > 0.85).all()
    assert (top_right[:, 1:] < 0.2).all()
    assert others.max() == 0


def test_the_browser_paints_the_same_colours():
    values = list(range(256))
    found = painted(values, 16)
    expected = maps.heat_colours(torch.tensor(values).view(16, 16) / 255) * 255
    assert (found[..., :3] - expected).abs().max() <= 1
    assert found[..., 3].flatten().tolist() == values, "as opaque as it is hot"


def test_the_browser_paints_patches_row_by_row():
    found = painted([0, 255, 0, 0], 2)
    assert found[0, 1].tolist() == [230, 38, 26, 255]
    assert found[1, 0].tolist() == [26, 13, 115, 0]
