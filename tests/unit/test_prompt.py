"""A subject as a word: which token it is, and vectors in its place wherever the prompt says it."""

import pytest
import torch

from ssr_core.prompt import check_placed, embeds_in_place, placeholder_tokens, put_in_place

START, END, PAD, S, Z = 1, 2, 0, 7, 8
SPLITS = {"S": ([7], ["s</w>"]), "s": ([7], ["s</w>"]), "Z": ([8], ["z</w>"]), "": ([], []), "sks2": ([5, 6], ["sks", "2</w>"])}


def tokenize(text):
    return SPLITS[text]


def chunk(*text, length=10):
    return [START, *text, END, *[PAD] * (length - 2 - len(text))]


def place(chunks, words, continues=lambda token: False):
    """Vectors are written as tuples (token, number)."""

    def token_of(item):
        return item if isinstance(item, int) else None

    return put_in_place(chunks, words, token_of, lambda item, number: (item, number), END, PAD, continues)


def test_each_placeholder_is_one_token():
    assert placeholder_tokens(["S", "Z"], tokenize) == (7, 8)


def test_a_placeholder_of_several_tokens_is_refused_with_what_it_splits_into():
    with pytest.raises(ValueError, match=r'"sks2" is 2 tokens: "sks", "2"; expected a word that is one token'):
        placeholder_tokens(["sks2"], tokenize)


def test_no_placeholder_is_none():
    with pytest.raises(ValueError, match="is no token at all"):
        placeholder_tokens([""], tokenize)


def test_two_subjects_need_two_placeholders():
    with pytest.raises(ValueError, match="capitals do not count"):
        placeholder_tokens(["S", "s"], tokenize)


def test_every_occurrence_is_replaced_and_its_place_told():
    placed = place([chunk(S, 20, S)], {S: 1})
    assert placed.chunks == [chunk((S, 0), 20, (S, 0))]
    assert placed.places == {S: (1, 3)}


def test_places_count_over_all_chunks():
    placed = place([chunk(20, S), chunk(S)], {S: 1, Z: 1})
    assert placed.places == {S: (2, 11), Z: ()}


def test_a_piece_of_another_word_is_no_placeholder():
    placed = place([chunk(30, S, S)], {S: 1}, continues=lambda token: token == 30)
    assert placed.chunks == [chunk(30, S, (S, 0))]


def test_two_words_of_different_lengths_stand_beside_each_other():
    placed = place([chunk(S, 20, Z)], {S: 2, Z: 1})
    assert placed.chunks == [chunk((S, 0), (S, 1), 20, (Z, 0))]
    assert placed.places == {S: (1,), Z: (4,)}


def test_more_vectors_take_the_place_of_padding():
    placed = place([chunk(20, S, 21)], {S: 5})
    assert placed.chunks == [chunk(20, *((S, number) for number in range(5)), 21)]
    assert len(placed.chunks[0]) == 10


def test_the_last_place_of_a_chunk_holds_a_word():
    text = [20, 21, 22, 23, 24, 25, 26, S]
    placed = place([chunk(*text)], {S: 1})
    assert placed.chunks == [chunk(*text[:-1], (S, 0))]
    assert placed.places == {S: (8,)}


def test_text_that_finds_no_room_moves_on_and_vectors_stay_together():
    placed = place([chunk(20, 21, 22, 23, 24, 25, S, 26)], {S: 3})
    assert placed.chunks == [chunk(20, 21, 22, 23, 24, 25), chunk((S, 0), (S, 1), (S, 2), 26)]
    assert placed.places == {S: (11,)}


def test_text_that_moves_on_pushes_the_next_chunks_text():
    full = [20, 21, 22, 23, 24, 25, 26]
    placed = place([chunk(S, *full), chunk(*full, 27)], {S: 2})
    assert placed.chunks == [chunk((S, 0), (S, 1), *full[:-1]), chunk(26, *full), chunk(27)]


def test_embeddings_of_others_in_the_prompt_stay_what_they_are():
    placed = place([[START, ("embedding",), S, END, PAD]], {S: 1})
    assert placed.chunks == [[START, ("embedding",), (S, 0), END, PAD]]


def test_without_the_word_nothing_changes():
    placed = place([chunk(20, 21)], {S: 4})
    assert placed.chunks == [chunk(20, 21)]
    with pytest.raises(ValueError, match=r'The prompt "a dog" does not say "S" as a word of its own'):
        check_placed(placed.places, [S], ["S"], "a dog")


def test_embeddings_of_a_batch_get_each_text_its_own_vectors_and_gradients():
    ids = torch.tensor([chunk(20, S), chunk(S, 20, S)])
    embeds = torch.arange(20.0).view(2, 10, 1)
    vectors = torch.tensor([[[-1.0], [-2.0]], [[-3.0], [-4.0]]], requires_grad=True)
    made, places = embeds_in_place(embeds, ids, {S: vectors}, END)
    assert made[0].flatten().tolist() == [0, 1, -1, -2, 3, 4, 5, 6, 7, 8]
    assert made[1].flatten().tolist() == [10, -3, -4, 12, -3, -4, 14, 15, 16, 17]
    assert places == [{S: (2,)}, {S: (1, 4)}]
    made.sum().backward()
    assert vectors.grad.flatten().tolist() == [1, 1, 2, 2]


def test_a_text_without_room_for_more_vectors_is_refused():
    ids = torch.tensor([chunk(20, 21, 22, 23, 24, 25, 26, S)])
    with pytest.raises(ValueError, match="no room for 2 more tokens"):
        embeds_in_place(torch.zeros(1, 10, 4), ids, {S: torch.zeros(1, 3, 4)}, END)
