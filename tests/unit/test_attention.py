"""Decoupled attention in a batch of condition chunks: spans, folding, regions, and what must not change."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssr_core.attention import Branch, add_branches, attend_shared, plan_spans, scaled_dot_product
from ssr_core.schedule import positions_where

HEADS, WIDTH, LENGTH = 2, 8, 6

chunk_rows = st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=8)


def chunk_of(rows, spans):
    """Which row the spans give to every chunk."""
    served = [None] * len(rows)
    for span in spans:
        for chunk in range(span.start, span.stop):
            served[chunk] = span.row if span.rows == 1 else span.row + chunk - span.start
    return served


def naive(text, query, branches, rows, strength=1.0):
    """Every chunk, picture and branch one by one."""
    out, pictures = text.clone(), len(query) // len(rows)
    for index in range(len(query)):
        chunk, picture = divmod(index, pictures)
        row = rows[chunk]
        if row is None:
            continue
        for branch in branches:
            key, value = branch.key[row : row + 1], branch.value[row : row + 1]
            delta = scaled_dot_product(query[index : index + 1], key, value, HEADS)[0] * branch.strength
            if branch.weight is not None:
                weight = branch.weight[chunk]
                delta = delta * weight[picture if len(weight) > 1 else 0]
            out[index] += delta
    return out


def random_branch(generator, tokens=5, rows=4, strength=1.0, weight=None):
    draw = lambda: torch.randn(rows, tokens, WIDTH, generator=generator)
    return Branch(draw(), draw(), strength, weight)


def random_batch(generator, chunks, pictures):
    draw = lambda: torch.randn(chunks * pictures, LENGTH, WIDTH, generator=generator)
    return draw(), draw()


@settings(deadline=None, max_examples=200)
@given(chunk_rows)
def test_runs_are_disjoint_ordered_and_give_every_chunk_its_own_row(rows):
    spans = plan_spans(rows)
    edges = [edge for span in spans for edge in (span.start, span.stop)]
    assert edges == sorted(edges)
    assert all(span.rows in (1, span.stop - span.start) and span.start < span.stop for span in spans)
    assert chunk_of(rows, spans) == rows


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        ([], 0),
        ([None], 0),
        ([0, 1], 1),
        ([1, 0], 2),
        ([1, 1, 1], 1),
        ([0, 1, 1], 2),
        ([0, None, 1], 2),
        ([1, 0, 1], 2),
        ([0, 1, 2, 3], 1),
    ],
)
def test_common_batches_need_few_calls(rows, calls):
    assert len(plan_spans(rows)) == calls


@settings(deadline=None, max_examples=60)
@given(
    rows=chunk_rows,
    pictures=st.integers(1, 3),
    branches=st.lists(
        st.tuples(st.integers(1, 7), st.floats(-2, 2), st.sampled_from(["everywhere", "shared", "per picture"])),
        max_size=3,
    ),
    seed=st.integers(0, 2**16),
)
def test_any_batch_equals_one_attention_per_picture_and_branch(rows, pictures, branches, seed):
    generator = torch.Generator().manual_seed(seed)
    text, query = random_batch(generator, len(rows), pictures)
    frames = {"shared": 1, "per picture": pictures}
    made = [
        random_branch(
            generator,
            tokens,
            strength=strength,
            weight=None if kind == "everywhere" else torch.rand(len(rows), frames[kind], LENGTH, 1, generator=generator),
        )
        for tokens, strength, kind in branches
    ]
    before = text.clone()
    out = add_branches(text, query, made, plan_spans(rows), len(rows), HEADS)
    torch.testing.assert_close(out, naive(text, query, made, rows), atol=1e-5, rtol=1e-5)
    assert torch.equal(text, before), "the layer's own text attention was written to"
    for chunk, row in enumerate(rows):
        if row is None:
            part = slice(chunk * pictures, (chunk + 1) * pictures)
            assert torch.equal(out[part], text[part])


def test_no_branch_and_no_run_give_back_the_very_same_tensor():
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 2, 1)
    assert add_branches(text, query, [], plan_spans([0, 1]), 2, HEADS) is text
    assert add_branches(text, query, [random_branch(generator)], plan_spans([None, None]), 2, HEADS) is text


@pytest.mark.parametrize("weight", [None, torch.zeros(2, 1, LENGTH, 1)], ids=["strength 0", "weight 0"])
def test_zero_strength_and_zero_weight_change_no_bit(weight):
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 2, 2)
    branch = random_branch(generator, strength=0.0 if weight is None else 1.0, weight=weight)
    assert torch.equal(add_branches(text, query, [branch], plan_spans([0, 1]), 2, HEADS), text)


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, 3), pictures=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_folding_pictures_into_the_query_axis_changes_nothing(rows, pictures, seed):
    generator = torch.Generator().manual_seed(seed)
    _, query = random_batch(generator, rows, pictures)
    branch = random_branch(generator, rows=rows)
    folded = attend_shared(query, branch.key, branch.value, HEADS, scaled_dot_product)
    copies = [side.repeat_interleave(pictures, dim=0) for side in (branch.key, branch.value)]
    torch.testing.assert_close(folded, scaled_dot_product(query, *copies, HEADS))


def test_a_host_is_asked_once_per_run_and_branch_with_unrepeated_keys():
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 3, 4)
    asked = []

    def host(query, key, value, heads):
        asked.append((tuple(query.shape), tuple(key.shape)))
        return scaled_dot_product(query, key, value, heads)

    add_branches(text, query, [random_branch(generator, rows=2)], plan_spans([0, 1, 1]), 3, HEADS, host)
    assert asked == [((2, 4 * LENGTH, WIDTH), (2, 5, WIDTH)), ((1, 4 * LENGTH, WIDTH), (1, 5, WIDTH))]


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(4)), rows=chunk_rows, seed=st.integers(0, 2**16))
def test_the_order_of_branches_does_not_matter(order, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    text, query = random_batch(generator, len(rows), 2)
    branches = [random_branch(generator, tokens, strength=0.3 * tokens) for tokens in (2, 3, 5, 7)]
    ordered = add_branches(text, query, branches, plan_spans(rows), len(rows), HEADS)
    shuffled = add_branches(text, query, [branches[place] for place in order], plan_spans(rows), len(rows), HEADS)
    torch.testing.assert_close(shuffled, ordered, atol=1e-5, rtol=1e-5)


def test_tokens_repeated_n_times_count_once():
    """A softmax over exact copies is the softmax over one. Training relies on it (subjects that fill up a batch), and so does
    Xiaojiu-z/SSR_Encoder's ssr_encoder/ssr_encoder.py for several samples."""
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 1, 1)
    once = random_branch(generator, rows=1)
    thrice = Branch(once.key.repeat(1, 3, 1), once.value.repeat(1, 3, 1), 1.0)
    one, three = (add_branches(text, query, [branch], plan_spans([0]), 1, HEADS) for branch in (once, thrice))
    torch.testing.assert_close(three, one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_precision(dtype):
    generator = torch.Generator().manual_seed(0)
    text, query = (tensor.to(dtype) for tensor in random_batch(generator, 2, 1))
    full = random_branch(generator, rows=2, strength=0.7)
    branches = [Branch(full.key.to(dtype), full.value.to(dtype), full.strength)] * 2
    assert add_branches(text, query, branches, plan_spans([0, 1]), 2, HEADS).dtype == dtype
    assert add_branches(text, query, branches, plan_spans([None, 1]), 2, HEADS).dtype == dtype


@settings(deadline=None, max_examples=60)
@given(
    rows=chunk_rows,
    pictures=st.integers(1, 3),
    kinds=st.lists(st.sampled_from(["everywhere", "weighted", "where", "nowhere"]), min_size=1, max_size=4),
    heads=st.booleans(),
    seed=st.integers(0, 2**16),
)
@example(rows=[0, 0], pictures=1, kinds=["where"], heads=False, seed=0)
@example(rows=[0, 1], pictures=2, kinds=["where", "where"], heads=True, seed=0)
def test_computing_a_branch_only_where_it_acts_changes_nothing(rows, pictures, kinds, heads, seed):
    generator = torch.Generator().manual_seed(seed)
    text, query = random_batch(generator, len(rows), pictures)
    whole, partial = [], []
    for kind in kinds:
        weight = torch.rand(len(rows), pictures, LENGTH, HEADS if heads else 1, generator=generator)
        if kind in ("where", "nowhere"):
            weight = weight * (torch.rand(1, pictures, LENGTH, 1, generator=generator) < (0.4 if kind == "where" else -1))
        branch = random_branch(generator, strength=0.7, weight=None if kind == "everywhere" else weight)
        whole.append(branch)
        where = positions_where(weight, pictures, LENGTH) if kind in ("where", "nowhere") else None
        partial.append(replace(branch, where=where))
    spans = plan_spans(rows)
    expected = add_branches(text, query, whole, spans, len(rows), HEADS)
    out = add_branches(text, query, partial, spans, len(rows), HEADS)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)
    if set(kinds) == {"nowhere"}:
        assert out is text


def test_a_branch_is_attended_to_only_where_it_acts():
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 2, 2)
    asked = []

    def host(query, key, value, heads):
        asked.append(tuple(query.shape))
        return scaled_dot_product(query, key, value, heads)

    where = torch.tensor([0, 1, LENGTH + 2])  # two positions of the first picture, one of the second
    branch = replace(random_branch(generator, rows=2), where=where)
    out = add_branches(text, query, [branch], plan_spans([0, 1]), 2, HEADS, host)
    assert asked == [(2, 3, WIDTH)]
    changed = (out != text).any(dim=-1).view(2, -1)  # [chunks, pictures * L]
    assert [chunk.nonzero().flatten().tolist() for chunk in changed] == [where.tolist()] * 2


def test_a_weight_per_head_weighs_each_head_by_its_own():
    generator = torch.Generator().manual_seed(0)
    text, query = random_batch(generator, 1, 1)
    branch = random_branch(generator, rows=1)
    plain = add_branches(text, query, [branch], plan_spans([0]), 1, HEADS) - text
    gated = replace(branch, weight=torch.tensor([0.0, 2.0]).view(1, 1, 1, HEADS))
    out = add_branches(text, query, [gated], plan_spans([0]), 1, HEADS) - text
    expected = torch.cat([torch.zeros_like(plain[..., : WIDTH // 2]), 2 * plain[..., WIDTH // 2 :]], dim=-1)
    torch.testing.assert_close(out, expected)


def test_tokens_that_a_row_lacks_are_not_attended_to():
    generator = torch.Generator().manual_seed(0)
    branch = random_branch(generator, tokens=5, rows=2)
    query, text = torch.randn(2, LENGTH, WIDTH, generator=generator), torch.randn(2, LENGTH, WIDTH, generator=generator)
    for where in (None, torch.tensor([0, 3])):
        filled = replace(branch, where=where, there=torch.tensor([[True, True, True, False, False], [True] * 5]))
        found = add_branches(text, query, [filled], plan_spans([0, 1]), 2, HEADS)
        short = replace(branch, where=where, key=branch.key[:, :3], value=branch.value[:, :3])
        for row, expected in enumerate((short, replace(branch, where=where))):
            alone = add_branches(text, query, [expected], plan_spans([0, 1]), 2, HEADS)[row]
            torch.testing.assert_close(found[row], alone)
