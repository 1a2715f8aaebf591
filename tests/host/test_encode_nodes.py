"""What the SSR-Encoder's nodes make of pictures and queries, and what they refuse at the door."""

import pytest
import torch
from support import golden, tiny


def test_query_is_encoded_with_the_last_layer_whatever_is_set_upstream(encoders, clip):
    expected = encoders.encode_query(clip, "a red dog", 768)
    skipped = clip.clone()
    skipped.clip_layer(-2)
    assert torch.equal(encoders.encode_query(skipped, "a red dog", 768).embeds, expected.embeds)
    assert skipped.layer_idx == -2
    assert not torch.equal(skipped.encode_from_tokens(skipped.tokenize("a red dog")).float(), expected.embeds)


def test_prompt_weights_are_ignored_and_words_found(encoders, clip):
    plain = encoders.encode_query(clip, "a red dog", 768)
    weighted = encoders.encode_query(clip, "a (red:1.6) dog", 768)
    assert torch.equal(weighted.embeds, plain.embeds)
    assert [tuple(word) for word in plain.words] == [("a", 1, 2), ("red", 2, 3), ("dog", 3, 4)]
    split = encoders.encode_query(clip, "bearplushie, hat", 768)
    assert [word.text for word in split.words] == ["bearplushie", "hat"]
    assert split.words[0].stop - split.words[0].first > 1
    assert encoders.encode_query(clip, "", 768).words == ()


def test_a_long_query_is_cut_with_a_warning(encoders, clip, caplog):
    query = encoders.encode_query(clip, "dog " * 100, 768)
    assert query.embeds.shape == (1, 77, 768)
    assert any("longer than 75 tokens" in record.getMessage() for record in caplog.records)


def test_encoding_a_batch_can_be_interrupted(nodes, encoder, clip, clip_vision, monkeypatch):
    import comfy.model_management

    asked = []

    def interrupted():
        asked.append(1)
        if len(asked) == 4:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupted)
    batch = torch.rand(8, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.encode(nodes, encoder, clip, clip_vision, batch)
    assert len(asked) == 4


@pytest.mark.parametrize(("width", "words"), [(768, ["a", "embedding", "dog"]), (1024, None)])
def test_an_embedding_of_another_width_is_refused_and_not_dropped(encoders, clip, width, words, monkeypatch):
    """The host leaves it out with a line in its log, and the words behind it move up by one."""
    tokens = clip.tokenize("a dog")
    tokens["l"][0][2:3] = [(torch.zeros(width), 1.0), tokens["l"][0][2]]
    del tokens["l"][0][-1]
    monkeypatch.setattr(type(clip), "tokenize", lambda self, text: tokens)
    if words is None:
        with pytest.raises(ValueError, match="names an embedding of width 1024; the SSR-Encoder needs 768"):
            encoders.encode_query(clip, "a embedding:other dog", 768)
    else:
        assert [word.text for word in encoders.encode_query(clip, "a embedding:own dog", 768).words] == words


def test_one_vision_pass_for_a_new_picture_and_none_for_a_known_one(nodes, encoder, clip, clip_vision, monkeypatch):
    batches, forward = [], clip_vision.model.forward

    def counted(*args, **kwargs):
        batches.append(len(kwargs["pixel_values"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(clip_vision.model, "forward", counted)
    one, two = golden.picture(64, 48, 0), golden.picture(64, 48, 1)
    tiny.encode(nodes, encoder, clip, clip_vision, one)
    assert batches == [2]  # the picture, and the zero picture of the unconditional side, once
    tiny.encode(nodes, encoder, clip, clip_vision, one, query="another word")
    assert batches == [2]
    tiny.encode(nodes, encoder, clip, clip_vision, two)
    assert batches == [2, 1]


def test_a_batch_of_references_gives_a_subject_each(nodes, encoder, clip, clip_vision):
    batch = torch.cat([golden.picture(64, 48, variant) for variant in range(3)])
    subjects = tiny.encode(nodes, encoder, clip, clip_vision, batch)
    alone = tiny.encode(nodes, encoder, clip, clip_vision, batch[1:2])[0]
    assert len(subjects) == 3
    assert golden.relative_error(subjects[1].tokens, alone.tokens) <= 1e-5


@pytest.mark.parametrize(
    "image",
    [torch.rand(1, 40, 30, 4), torch.rand(1, 1, 1, 3), torch.rand(1, 8, 8000, 3), torch.rand(1, 30, 40, 3).half()],
    ids=["RGBA", "1 pixel", "8000 pixels wide", "half precision"],
)
def test_unusual_pictures_are_encoded(nodes, encoder, clip, clip_vision, image):
    (subject,) = tiny.encode(nodes, encoder, clip, clip_vision, image)
    assert torch.isfinite(subject.tokens).all()
    assert subject.source_size == tuple(image.shape[1:3])


def test_an_empty_batch_is_refused(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="batch of at least one picture"):
        tiny.encode(nodes, encoder, clip, clip_vision, torch.zeros(0, 8, 8, 3))


def test_an_empty_query_needs_a_mask(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="query is empty and there is no mask"):
        tiny.encode(nodes, encoder, clip, clip_vision, query=" ")
    assert len(tiny.encode(nodes, encoder, clip, clip_vision, query="", mask=torch.ones(1, 48, 64))) == 1


def test_a_mask_of_zero_area_is_refused(nodes, encoder, clip, clip_vision):
    with pytest.raises(ValueError, match="mask query marks nothing"):
        tiny.encode(nodes, encoder, clip, clip_vision, mask=torch.zeros(1, 64, 64))


def test_clip_vision_of_another_width_is_refused(nodes, clip, clip_vision, encoders, tmp_path):
    wide = encoders.load_encoder([str(tiny.encoder_file(tmp_path / "wide.safetensors", vision_width=128))])
    with pytest.raises(ValueError, match=r"CLIP Vision model has width 64 .* needs width 128"):
        tiny.encode(nodes, wide, clip, clip_vision)


def test_clip_of_another_family_is_refused(encoders):
    class TwoEncoders:
        def clone(self):
            return self

        def clip_layer(self, layer):
            pass

        def tokenize(self, text):
            return {"g": [[]], "l": [[]]}

        class cond_stage_model:
            clip_g = clip_l = None

    with pytest.raises(ValueError, match=r"text encoders g, l; the SSR-Encoder needs SD1\.5's own CLIP-L"):
        encoders.encode_query(TwoEncoders(), "dog", 768)


def test_combine_multiplies_strengths_and_keeps_order(nodes, encoder, subject):
    other = (tiny.subject(encoder.fingerprint, seed=9, strength=0.5),)
    combined = nodes["SSR_CombineSubjects"].execute(subject, None, other, None, strength_1=0.8, strength_3=0.5).args[0]
    assert [part.strength for part in combined] == [0.8, 0.25]


def test_a_stale_combo_value_is_named(nodes, model, encoder, subject):
    for change, valid in [({"curve": "zzz"}, "fade in"), ({"layers": "zzz"}, "decoder only"), ({"combine": "zzz"}, "separate")]:
        values = {
            "start": 0.0,
            "end": 1.0,
            "curve": "constant",
            "layers": "all",
            "combine": "joint",
            "subject_scaling": "official",
        }
        with pytest.raises(ValueError, match=valid):
            nodes["SSR_ApplySubjectAdvanced"].execute(model, encoder, subject, 0.65, **{**values, **change})


def test_a_word_in_any_script_can_be_asked_for(nodes, encoder, clip, clip_vision):
    subject = tiny.encode(nodes, encoder, clip, clip_vision, query="un caf\u00e9, \u72d7")
    assert [word.text for word in subject[0].words] == ["un", "caf\u00e9", "\u72d7"]
    _, mask = nodes["SSR_SubjectAttentionMap"].execute(subject, golden.picture(64, 48, 0), word="caf\u00e9").args
    assert mask.max() == 1.0
