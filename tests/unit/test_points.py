"""How points are written, and which patches they lie in."""

import json

import pytest

from ssr_core.points import parse_points, points_to_patches


def test_points_lie_in_the_patches_under_them():
    marked = points_to_patches([(150, 70), (249.9, 119.9)], (50, 20, 250, 120), 4).view(4, 4)
    assert marked.nonzero().tolist() == [[2, 2], [3, 3]]


def test_the_right_and_lower_edges_of_what_the_encoder_sees_are_outside_the_left_and_upper_inside():
    box, inside = (50, 20, 250, 120), (50, 20)
    marked = points_to_patches([inside, (250, 70), (150, 120), (150, 19)], box, 4).view(4, 4)
    assert marked.nonzero().tolist() == [[0, 0]]


def test_points_beside_what_the_encoder_sees_are_refused():
    with pytest.raises(ValueError, match=r"None of the 1 points .* x 50 to 250 and y 0 to 100"):
        points_to_patches([(20, 50)], (50, 0, 250, 100), 4)
    assert points_to_patches([(20, 50), (60, 10)], (50, 0, 250, 100), 4).sum() == 1


@pytest.mark.parametrize(
    "text", ["120, 80; 140.5, 95", "120 80\n140.5 95", "120,80;140.5,95;", json.dumps([{"x": 120, "y": 80}, {"x": 140.5, "y": 95}]),
             json.dumps([[120, 80], [140.5, 95]])],
)  # fmt: skip
def test_points_are_read_as_people_and_point_editors_write_them(text):
    assert parse_points(text) == ((120.0, 80.0), (140.5, 95.0))
    assert parse_points("  ") == ()


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "1, 2, 3",
        "1",
        "1, nan",
        '[{"x": 1}]',
        "[1, 2]",
        "{",
        "inf, 1",
        "<b>1</b>, 2",
        "[[1" + "0" * 400 + ", 2]]",
        "[" * 100_000,
        '[["12", "34"]]',
        '[["12", 34]]',
        "1, 2; nan, 4",
    ],
)
def test_anything_else_is_no_point(text):
    with pytest.raises(ValueError, match="expected pixels such as"):
        parse_points(text)


@pytest.mark.parametrize("text", ["1e300, 2", "65537, 0", "[[1e308, 1]]", "-70000, 1"])
def test_a_place_beyond_every_picture_is_no_point(text):
    with pytest.raises(ValueError, match=r"expected pixels such as .* at most 65,536"):
        parse_points(text)


def test_texts_and_lists_beyond_a_limit_are_refused_shortly():
    for text in ("1 2;" * 1_000_000, " " * 5_000_000, "x" * 90_000, "1 2;" * 5000):
        with pytest.raises(ValueError, match="points") as caught:
            parse_points(text)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, 3, b"1, 2", [[1, 2]]], ids=repr)
def test_what_is_no_text_is_refused_by_its_type(value):
    with pytest.raises(ValueError, match="expected a text"):
        parse_points(value)


def test_control_characters_do_not_come_back_in_the_message():
    with pytest.raises(ValueError, match="expected pixels") as caught:
        parse_points("a\x1b[31m\x07")
    assert str(caught.value).isprintable()
