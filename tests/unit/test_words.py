"""Words of a query out of CLIP's pieces."""

import pytest

from ssr_core.words import Word, words_of


def test_words_are_byte_pairs_joined_up_to_their_end():
    pieces = ["<|startoftext|>", "a</w>", "dal", "mat", "ian</w>", ",</w>", "sitting</w>", *["<|endoftext|>"] * 4]
    assert words_of(pieces) == (Word("a", 1, 2), Word("dalmatian", 2, 5), Word("sitting", 6, 7))


@pytest.mark.parametrize("word", ["caf\u00e9", "\u72d7", "\u0441\u043e\u0431\u0430\u043a\u0430", "na\u00efve", "<my-dog>"])
def test_words_are_read_out_of_clips_alphabet_of_bytes(word):
    """As transformers writes them, in pieces that may part a character."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = bytes_to_unicode()
    spelled = "".join(alphabet[byte] for byte in word.encode())
    pieces = ["<|startoftext|>", *spelled[:-1], spelled[-1] + "</w>"]
    assert words_of(pieces) == (Word(word, 1, len(spelled) + 1),)


def test_a_curly_apostrophe_is_no_word_and_a_word_added_to_the_vocabulary_stays_as_it_is():
    assert words_of(["<|startoftext|>", "don</w>", "\u00e2\u0122\u013b</w>", "t</w>"]) == (Word("don", 1, 2), Word("t", 3, 4))
    assert words_of(["<|startoftext|>", "\u72d7</w>"]) == (Word("\u72d7", 1, 2),)


@pytest.mark.parametrize(
    "pieces", [[], ["<|startoftext|>"], ["<|startoftext|>", "<|endoftext|>"], ["<|startoftext|>", "!</w>"]]
)
def test_an_empty_query_has_no_words(pieces):
    assert words_of(pieces) == ()


def test_a_word_cut_off_by_the_token_limit_is_no_word():
    assert words_of(["<|startoftext|>", "a</w>", "dal", "mat"]) == (Word("a", 1, 2),)
