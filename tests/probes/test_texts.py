"""Texts become tokens, labels become numbers, and what cannot become either is explained."""

import numpy as np
import pandas as pd
import pytest

from bayes_prehoc import InputError, TextData
from bayes_prehoc.probes.objectives import IGNORED
from bayes_prehoc.probes.texts import encode

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "very", "so"]
TRAIN = pd.DataFrame(
    {
        "text": ["good film", "very very bad plot", "so so"],
        "other": ["plot", "film", "bad"],
        "label": ["yes", "no", "yes"],
    }
)
TEST = pd.DataFrame(
    {"text": ["bad bad", "good"], "other": ["film", "so"], "label": ["no", "yes"], "clean": ["yes", "no"]}
)


@pytest.fixture(scope="module")
def tokenizer():
    """Words as tokens, between [CLS] and [SEP]."""
    transformers = pytest.importorskip("transformers")
    import tokenizers

    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]"
    )


def data(**changes):
    given = {"train": TRAIN, "evaluation": TEST, "text": "text", "label": "label"}
    return TextData(**(given | changes))


def words(encoded, row):
    return [WORDS[i] for i in encoded.ids[row][encoded.mask[row]]]


def test_texts_are_padded_on_the_right(tokenizer):
    texts = encode(data(), tokenizer, 10)
    assert texts.train.ids.shape == (3, 6) and texts.evaluation.ids.shape == (2, 4)
    assert words(texts.train, 1) == ["[CLS]", "very", "very", "bad", "plot", "[SEP]"]
    assert words(texts.train, 2) == ["[CLS]", "so", "so", "[SEP]"] and not texts.train.mask[2, 4:].any()
    assert texts.classes == ("no", "yes") and texts.train.target.tolist() == [1, 0, 1]
    assert texts.cut == 0 and texts.outcome is None


def test_the_second_of_a_pair_has_another_type(tokenizer):
    texts = encode(data(pair="other"), tokenizer, 10)
    assert words(texts.train, 0) == ["[CLS]", "good", "film", "[SEP]", "plot", "[SEP]"]
    assert texts.train.types[0][texts.train.mask[0]].tolist() == [0, 0, 0, 0, 1, 1]


def test_answers_follow_their_prompt_and_only_they_are_asked_about(tokenizer):
    frame = pd.DataFrame({"text": ["good film", "so"], "label": ["very good", "bad"]})
    texts = encode(TextData(train=frame, evaluation=frame, text="text", label="label", kind="answer"), tokenizer, 10)
    # The prompt's own end stands between it and the answer.
    assert words(texts.train, 0) == ["[CLS]", "good", "film", "[SEP]", "very", "good", "[SEP]"]
    target = texts.train.target[0]
    asked = np.flatnonzero(target != IGNORED)
    assert asked.tolist() == [3, 4, 5] and [WORDS[i] for i in target[asked]] == ["very", "good", "[SEP]"]
    np.testing.assert_array_equal(target[asked], texts.train.ids[0, asked + 1])


def test_long_texts_are_cut_only_if_that_is_asked_for(tokenizer):
    with pytest.raises(InputError, match="1 of 3 examples are longer than the 5 tokens .* row 2 with 6"):
        encode(data(), tokenizer, 5)
    texts = encode(data(longest=4), tokenizer, 5)
    assert words(texts.train, 1) == ["[CLS]", "very", "very", "[SEP]"] and texts.cut == 1
    answers = TextData(train=TRAIN, evaluation=TEST, text="text", label="label", kind="answer", longest=4)
    texts = encode(answers, tokenizer, 10)
    assert words(texts.train, 1) == ["plot", "[SEP]", "[UNK]", "[SEP]"] and texts.cut == 5


def test_labels_are_numbered_in_their_own_order(tokenizer):
    train = TRAIN.assign(label=[10.0, 9.0, 10.0])
    assert encode(data(train=train, evaluation=TEST.assign(label=["9", "10"])), tokenizer, 10).classes == ("9", "10")
    numbers = encode(data(train=train, evaluation=TEST.assign(label=[1.5, "2"]), kind="number"), tokenizer, 10)
    assert numbers.evaluation.target.tolist() == [1.5, 2.0] and numbers.classes == ()


def test_the_clean_label_of_the_evaluation_can_have_a_column_of_its_own(tokenizer):
    texts = encode(data(evaluation_label="clean", outcome=TEST), tokenizer, 10)
    assert texts.evaluation.target.tolist() == [1, 0] == texts.outcome.target.tolist()


def test_data_are_identified_by_what_is_in_them(tokenizer, tmp_path):
    TRAIN.to_csv(tmp_path / "a.csv")
    first = encode(data(), tokenizer, 10).digest
    assert encode(data(train=tmp_path / "a.csv"), tokenizer, 10).digest == first
    assert encode(data(train=TRAIN.iloc[::-1]), tokenizer, 10).digest != first
    assert encode(data(evaluation=TEST.assign(label=["yes", "yes"])), tokenizer, 10).digest != first


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"text": "words"}, "no column 'words'. The columns are text, other, label"),
        ({"label": "clean"}, "train table: no column 'clean'"),
        ({"train": TRAIN.iloc[:0]}, "there are no examples"),
        ({"train": TRAIN.assign(text=["a", None, "b"])}, "row 2 has no 'text'"),
        ({"train": TRAIN.assign(label="yes")}, "all examples have the label 'yes'"),
        (
            {"evaluation": TEST.assign(label=["no", "perhaps"])},
            "row 2 has the label 'perhaps', of which training has no",
        ),
        ({"kind": "number"}, "row 1 has 'yes', which is no finite number"),
        ({"longest": 11}, "longest is 11, the model takes 10 tokens"),
    ],
)
def test_what_cannot_be_encoded_is_explained(changes, complaint, tokenizer):
    with pytest.raises(InputError, match=complaint):
        encode(data(**changes), tokenizer, 10)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "span"}, "kind is 'span'"),
        ({"kind": "answer", "pair": "other"}, "follows one prompt"),
        ({"longest": 1}, "longest is 1"),
        ({"text": 0}, "Give all by name, or all by position"),
    ],
)
def test_impossible_descriptions_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        data(**changes)


def test_rows_can_be_taken(tokenizer):
    train = encode(data(), tokenizer, 10).train
    some = train.take(np.array([2, 0]))
    assert some.ids.shape == (2, 4) and words(some, 0) == words(train, 2) and some.target.tolist() == [1, 1]
