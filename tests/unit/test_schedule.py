"""How strong a subject acts: over the steps, over the layers, over the places of the output picture."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_core.layout import SD15, SDXL
from ssr_core.schedule import (
    CURVES,
    LAYER_PRESETS,
    StepSchedule,
    frame_index,
    frame_weights,
    layer_strengths,
    one_each,
    parse_numbers,
    positions_where,
    region_weights,
)

shares = st.floats(0, 1)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def schedules(draw):
    start, end = sorted((draw(shares), draw(shares)))
    curve = draw(st.lists(st.floats(-2, 2), min_size=1, max_size=6))
    return StepSchedule(start, end, tuple(curve))


@settings(deadline=None, max_examples=100)
@given(schedules(), shares)
def test_a_schedule_is_zero_outside_its_window_and_within_its_curve_inside(schedule, progress):
    value = schedule.at(progress)
    if schedule.start <= progress <= schedule.end:
        assert min(schedule.curve) - 1e-9 <= value <= max(schedule.curve) + 1e-9
    else:
        assert value == 0.0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), shares, shares)
def test_a_curve_has_no_jumps(curve, first, second):
    schedule = StepSchedule(0.0, 1.0, tuple(curve))
    steepest = max((abs(b - a) for a, b in itertools.pairwise(curve)), default=0.0) * max(1, len(curve) - 1)
    assert abs(schedule.at(first) - schedule.at(second)) <= steepest * abs(first - second) + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-2, 2), min_size=2, max_size=6), st.floats(0, 0.4), st.floats(0.6, 1))
def test_a_curve_passes_through_its_numbers(curve, start, end):
    schedule = StepSchedule(start, end, tuple(curve))
    for index, value in enumerate(curve):
        progress = min(start + (end - start) * index / (len(curve) - 1), end)
        assert schedule.at(progress) == pytest.approx(value, abs=1e-9)


def test_a_window_of_one_point_acts_at_that_point():
    assert [StepSchedule(0.5, 0.5).at(progress) for progress in (0.4, 0.5, 0.6)] == [0.0, 1.0, 0.0]
    assert [StepSchedule(1.0, 1.0).at(progress) for progress in (0.9, 1.0)] == [0.0, 1.0]
    assert StepSchedule(0.5, 0.5, (0.7, 0.3)).at(0.5) == 0.7, "a curve begins with its first number"


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
def test_named_curves_stay_between_nothing_and_full(curve):
    values = [StepSchedule(curve=curve).at(step / 30) for step in range(31)]
    assert min(values) >= 0
    assert max(values) == pytest.approx(1)


def test_named_curves_do_what_their_names_say():
    found = {
        name: [round(StepSchedule(curve=curve).at(share), 6) for share in (0.0, 0.5, 1.0)] for name, curve in CURVES.items()
    }
    assert found == {
        "constant": [1, 1, 1],
        "fade in": [0, 0.5, 1],
        "fade out": [1, 0.5, 0],
        "ease in": [0, 0.5, 1],
        "ease out": [1, 0.5, 0],
        "rise and fall": [0, 1, 0],
        "fall and rise": [1, 0, 1],
    }
    assert CURVES["ease in"] == pytest.approx([3 * t**2 - 2 * t**3 for t in (0, 0.2, 0.4, 0.6, 0.8, 1)])
    assert CURVES["ease out"] == CURVES["ease in"][::-1]


@settings(deadline=None, max_examples=100)
@given(schedules() | st.sampled_from([StepSchedule(), StepSchedule(curve=(1.0, 1.0))]), shares)
def test_a_schedule_called_always_full_is_one_at_every_step(schedule, progress):
    if schedule.always_full:
        assert schedule.at(progress) == 1.0


def test_only_the_plain_schedule_is_always_full():
    assert StepSchedule().always_full
    assert StepSchedule(curve=(1.0, 1.0)).always_full
    for schedule in (
        StepSchedule(start=0.1),
        StepSchedule(end=0.9),
        StepSchedule(curve=(1.0, 0.5)),
        StepSchedule(curve=(0.9,)),
    ):
        assert not schedule.always_full


@pytest.mark.parametrize(("start", "end"), [(0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0), (0.0, float("nan"))])
def test_an_impossible_window_is_refused_with_its_numbers(start, end):
    with pytest.raises(ValueError, match=f"start {start} and end {end}"):
        StepSchedule(start, end)


@pytest.mark.parametrize("curve", [(), (1.0, float("nan")), (float("inf"),)])
def test_a_curve_without_finite_numbers_is_refused(curve):
    with pytest.raises(ValueError, match="finite"):
        StepSchedule(curve=curve)


@pytest.mark.parametrize("text", ["1, 0.5, 0", "1 0.5 0", "1;0.5;0", "1,\n0.5,\n0\n", " 1,0.5 ,  0,"])
def test_numbers_may_be_separated_in_any_usual_way(text):
    assert parse_numbers(text, "curve") == (1.0, 0.5, 0.0)


def test_no_text_is_no_numbers():
    assert parse_numbers(" \n", "curve") == ()


@pytest.mark.parametrize("text", ["one", "1, 0.5x", "1..5", "nan", "1, inf", "1e999"])
def test_what_is_no_number_is_refused_by_name(text):
    with pytest.raises(ValueError, match="The curve is"):
        parse_numbers(text, "The curve")


def blocks(strengths):
    return {layer.block[0]: value for layer, value in zip(SD15.layers, strengths, strict=True)}


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "all": (1.0, 1.0, 1.0),
        "encoder only": (1.0, 0.0, 0.0),
        "middle only": (0.0, 1.0, 0.0),
        "decoder only": (0.0, 0.0, 1.0),
        "no encoder": (0.0, 1.0, 1.0),
        "no decoder": (1.0, 1.0, 0.0),
    }.items(),
)
def test_a_preset_sets_input_middle_and_output_blocks(name, expected):
    assert blocks(layer_strengths(SD15, name)) == dict(zip(("input", "middle", "output"), expected, strict=True))


def test_structure_and_detail_share_the_decoder_by_how_fine_it_is():
    """SD1.5's decoder runs output blocks 3 to 8 on coarser grids and 9 to 11 on the latent's own."""
    for preset, numbers in (("structure", range(3, 9)), ("detail", range(9, 12))):
        strengths = layer_strengths(SD15, preset)
        assert {layer.block for layer in SD15.layers if strengths[layer.index]} == {("output", number, 0) for number in numbers}
        assert set(strengths) == {0.0, 1.0}


def test_every_preset_is_known_by_what_it_does():
    assert set(LAYER_PRESETS) == {
        "all", "encoder only", "middle only", "decoder only", "no encoder", "no decoder", "structure", "detail",
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["structure", "detail"])
def test_what_was_measured_on_sd15_is_refused_on_sdxl(preset):
    """There "detail" would mean no layer at all."""
    with pytest.raises(ValueError, match=r"measured on SD1\.x.*Choose one of: all, encoder only"):
        layer_strengths(SDXL, preset)


def test_one_number_is_for_all_layers_and_three_for_the_stages():
    assert layer_strengths(SD15, numbers=[0.4]) == (0.4,) * 16
    assert layer_strengths(SD15) == (1.0,) * 16
    assert blocks(layer_strengths(SD15, numbers=[1, 2, 3])) == {"input": 1, "middle": 2, "output": 3}


def test_sixteen_numbers_follow_the_pass_not_the_file():
    by_layer = dict(zip(SD15.layers, layer_strengths(SD15, numbers=range(16)), strict=True))
    assert [by_layer[layer] for layer in SD15.execution_order] == list(range(16))
    (middle,) = (layer for layer in SD15.layers if layer.block[0] == "middle")
    assert by_layer[middle] == 6


def test_numbers_go_before_the_preset():
    assert layer_strengths(SD15, "middle only", [0.5]) == (0.5,) * 16


def test_another_count_of_numbers_says_which_counts_fit():
    with pytest.raises(ValueError, match=r"2 layer strengths given; expected 1, 3 .* or 16"):
        layer_strengths(SD15, numbers=[1, 2])


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match=r'no layer preset "half".*decoder only'):
        layer_strengths(SD15, "half")


@st.composite
def region_calls(draw):
    canvas = draw(sizes)
    height, width = (draw(st.integers(1, side)) for side in canvas)
    top, left = draw(st.integers(0, canvas[0] - height)), draw(st.integers(0, canvas[1] - width))
    area = draw(st.none() | st.just((height, width, top, left)))
    return draw(sizes), canvas, area, draw(sizes)


@settings(deadline=None, max_examples=100)
@given(region_calls(), st.integers(1, 3), st.integers(0, 2**16))
def test_any_region_gives_one_weight_in_0_to_1_for_every_token(call, frames, seed):
    size, canvas, area, grid = call
    region = torch.rand(frames, *size, generator=torch.Generator().manual_seed(seed))
    weights = region_weights(region, canvas, area, grid)
    assert weights.shape == (frames, grid[0] * grid[1], 1)
    assert 0 <= weights.min() <= weights.max() <= 1


@settings(deadline=None, max_examples=100)
@given(region_calls())
def test_a_full_region_stays_full_and_an_empty_one_empty(call):
    size, canvas, area, grid = call
    assert region_weights(torch.zeros(1, *size), canvas, area, grid).abs().max() == 0
    torch.testing.assert_close(
        region_weights(torch.ones(1, *size), canvas, area, grid), torch.ones(1, grid[0] * grid[1], 1), rtol=0, atol=1e-6
    )


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(1, 4), st.integers(1, 16), st.booleans())
def test_a_half_region_on_cell_borders_does_not_bleed(half_grid, up, factor, across):
    """Both ways: a fine mask for coarse cells, and through a crop of the canvas."""
    grid = (2 * half_grid[0], 2 * half_grid[1])
    coarse = torch.zeros(grid)
    (coarse if across else coarse.T)[: (grid[0] if across else grid[1]) // 2] = 1
    fine = coarse.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[None]
    canvas = (grid[0] * up, grid[1] * up)
    whole = region_weights(fine, canvas, None, grid)
    assert torch.equal(whole.view(grid), coarse)
    if factor % up == 0:
        assert torch.equal(region_weights(fine, canvas, (*canvas, 0, 0), grid).view(grid), coarse)


@settings(deadline=None, max_examples=50)
@given(region_calls(), st.integers(0, 2**16))
def test_a_crop_at_latent_resolution_is_a_slice_of_the_canvas(call, seed):
    _, canvas, area, _ = call
    height, width, top, left = area or (*canvas, 0, 0)
    region = torch.rand(2, *canvas, generator=torch.Generator().manual_seed(seed))
    weights = region_weights(region, canvas, area, (height, width))
    assert torch.equal(weights.view(2, height, width), region[:, top : top + height, left : left + width])


def test_a_cell_that_is_partly_covered_weighs_its_share():
    region = torch.zeros(1, 8, 8)
    region[:, :, 5:] = 1  # a quarter of the cell over columns 4 to 7 stays uncovered
    assert region_weights(region, (2, 2), None, (2, 2)).flatten().tolist() == [0, 0.75, 0, 0.75]


def test_a_side_that_shrinks_does_not_bleed_where_the_other_stays():
    half = torch.zeros(1, 4, 8)
    half[:, :, 4:] = 1
    across = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4)
    assert torch.equal(region_weights(half, (4, 4), None, (4, 4)).view(4, 4), across)
    assert torch.equal(region_weights(half.mT, (4, 4), None, (4, 4)).view(4, 4), across.T)


def test_a_side_that_grows_is_smooth_and_one_that_shrinks_beside_it_loses_no_thin_line():
    lower = torch.zeros(1, 2, 8)
    lower[:, 1] = 1
    smooth = torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None].expand(4, 2)
    torch.testing.assert_close(region_weights(lower, (4, 2), None, (4, 2)).view(4, 2), smooth)
    line = torch.zeros(1, 2, 8)
    line[:, :, 0] = 1
    assert (region_weights(line, (4, 2), None, (4, 2)).view(4, 2)[:, 0] > 0.1).all()


def test_a_region_beyond_0_to_1_weighs_as_its_nearer_end():
    region = torch.tensor([[[-0.5, 0.5, 1.5]]])
    assert region_weights(region, (1, 3), None, (1, 3)).flatten().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("soft", [0.25, 0.5])
def test_soft_edges_stay_soft(soft):
    assert torch.all(region_weights(torch.full((1, 64, 64), soft), (64, 64), None, (8, 8)) == soft)


def test_a_pass_over_some_frames_takes_theirs():
    assert frame_index(4, 2, None).tolist() == [0, 1]
    assert frame_index(4, 2, [3, 1]).tolist() == [3, 1]


def test_a_list_shorter_than_the_batch_holds_its_last_entry():
    assert frame_index(2, 4, None).tolist() == [0, 1, 1, 1]
    assert frame_index(2, 2, [7, 0]).tolist() == [1, 0]
    assert frame_index(1, 2, [3, 9]).tolist() == [0, 0]


def test_strengths_of_pictures_are_those_of_the_pass():
    assert torch.equal(frame_weights((0.5, 1.0, 0.25), 4, None), torch.tensor([0.5, 1.0, 0.25, 0.25]).view(1, 4, 1, 1))
    assert torch.equal(frame_weights((0.5, 1.0, 0.25), 2, [2, 0]), torch.tensor([0.25, 0.5]).view(1, 2, 1, 1))


def test_positions_where_something_acts_in_any_chunk_are_counted_through_its_pictures():
    weights = torch.zeros(2, 2, 3, 1)  # 2 chunks of 2 pictures of 3 positions
    weights[0, 0, 2] = 0.5
    weights[1, 1, 0] = -0.5
    assert positions_where(weights, 2, 3).tolist() == [2, 3]
    assert positions_where(weights[:, :1], 2, 3).tolist() == [2, 5], "one weight for both pictures"
    assert positions_where(weights[:, :, 2:], 2, 3).tolist() == [0, 1, 2], "one weight for all positions of a picture"
    assert positions_where(torch.zeros(1, 1, 1, 1), 2, 3).tolist() == []
    assert positions_where(torch.ones(1, 1, 3, 1), 2, 3) is None


def test_one_each_gives_picture_i_to_subject_i_and_the_rest_to_the_last():
    assert one_each(1) == ((1.0,),)
    assert one_each(3) == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    assert one_each(2, (0.5,)) == ((0.5, 0.0), (0.0, 0.5))
    assert one_each(2, (0.5, 1.0, 0.25)) == ((0.5, 0.0, 0.0), (0.0, 1.0, 0.25))
    for count, strengths in ((3, ()), (2, (0.5, 1.0, 0.25)), (4, (0.5, 0.25))):
        together = sum(frame_weights(own, 6, None) for own in one_each(count, strengths))
        assert torch.equal(together, frame_weights(strengths or (1.0,), 6, None))
