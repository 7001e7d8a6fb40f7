"""Pretrained transformers compute what PyTorch computes from the same checkpoints, and refuse what they do not know."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from bayes_prehoc import InputError
from bayes_prehoc.probes.backbones.layers import LowRank
from bayes_prehoc.probes.backbones.pretrained import load_pretrained
from bayes_prehoc.probes.backbones.transformer import Classifier, LoRA, Network, tokens_of

ROOT = Path(__file__).resolve().parents[2]
REFERENCES = Path(__file__).resolve().parent / "references"
CLASSIFIERS = ("bert", "roberta", "distilbert", "gpt2-classifier")
LANGUAGE = ("gpt2", "llama-sharded-bf16", "llama3-tied", "qwen2", "qwen3")
CLOSE = 2e-5
"""Largest difference of a logit in single precision."""

transformers = pytest.importorskip("transformers")


def reference(name):
    """Tokens and logits that PyTorch made."""
    folder = REFERENCES / name
    with np.load(folder / "reference.npz" if folder.is_dir() else folder.with_suffix(".npz")) as file:
        return tokens_of(file["ids"], file["mask"], file["types"]), file["logits"]


@pytest.fixture(scope="session")
def minilm(minilm_folder):
    """all-MiniLM-L6-v2."""
    return load_pretrained(minilm_folder)


@pytest.fixture(scope="session")
def stories(stories_folder):
    """The small Llama."""
    return load_pretrained(stories_folder)


def network_of(pretrained, variant):
    return Network(pretrained.config, pretrained.classifier(3) if variant in CLASSIFIERS else None)


@pytest.mark.parametrize("variant", [*CLASSIFIERS, *LANGUAGE])
def test_logits_are_those_of_pytorch(variant):
    pretrained = load_pretrained(REFERENCES / variant)
    network = network_of(pretrained, variant)
    params, fresh = pretrained.params(network, "kept")
    tokens, expected = reference(variant)
    logits = np.asarray(jax.jit(network.whole)(params, tokens))
    assert fresh == () and logits.shape == expected.shape and np.abs(expected).max() > 0.3
    rows = slice(None) if variant in CLASSIFIERS else np.asarray(tokens.mask)
    assert np.abs(logits[rows] - expected[rows]).max() < CLOSE


def test_a_real_encoder_computes_what_it_does_in_pytorch(minilm):
    """Sentences, too, have the cosines that the tokenizer and the pooling make of them."""
    tokens, expected = reference("minilm-l6")
    network = Network(minilm.config, minilm.classifier(2))
    params, _ = minilm.params(network)
    found = np.asarray(network.below(params, tokens, minilm.config.blocks))
    mask = np.asarray(tokens.mask)
    assert minilm.pooling == "mean" and np.abs(found - expected)[mask].max() < CLOSE
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "Two planes are in the sky."]
    given = minilm.tokenizer(texts, padding=True, return_tensors="np")
    tokens = tokens_of(given["input_ids"], given["attention_mask"], given["token_type_ids"])
    pooled = np.asarray(network.pooled(params, tokens))
    pooled = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert pooled[0] @ pooled[1] > 0.7 and abs(pooled[0] @ pooled[2]) < 0.2


def test_a_real_language_model_computes_what_it_does_in_pytorch(stories):
    tokens, expected = reference("stories260k")
    network = Network(stories.config)
    params, fresh = stories.params(network)
    mask = np.asarray(tokens.mask)
    found = np.asarray(network.whole(params, tokens))
    assert fresh == () and np.abs(found - expected)[mask].max() < CLOSE


def test_a_real_language_model_writes_its_story(stories):
    network = Network(stories.config)
    params, _ = stories.params(network)
    step = jax.jit(lambda ids: network.whole(params, tokens_of(ids)))
    ids = stories.tokenizer("Once upon a time")["input_ids"]
    for _ in range(40):
        padded = np.zeros((1, 64), int)
        padded[0, : len(ids)] = ids
        ids.append(int(np.argmax(step(padded)[0, len(ids) - 1])))
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert stories.tokenizer.decode(ids, skip_special_tokens=True).startswith(story)


@pytest.mark.parametrize("variant", ["bert", "qwen3"])
def test_a_pass_can_be_cut_at_any_layer(variant):
    pretrained = load_pretrained(REFERENCES / variant)
    network = network_of(pretrained, variant)
    params, _ = pretrained.params(network, "kept")
    tokens, _ = reference(variant)
    whole = network.whole(params, tokens)
    for cut in range(pretrained.config.blocks + 1):
        x = network.below(params, tokens, cut)
        np.testing.assert_allclose(network.above(params, x, tokens, cut), whole, atol=1e-6)
    if network.classifier:
        np.testing.assert_allclose(network.from_pooled(params, network.pooled(params, tokens)), whole, atol=1e-6)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_pooling_does_not_see_padding(pooling):
    pretrained = load_pretrained(REFERENCES / "bert")
    network = Network(pretrained.config, Classifier(2, pooling))
    params, fresh = pretrained.params(network)
    assert fresh == ("head.out.bias", "head.out.kernel")
    tokens, _ = reference("bert")
    length = int(np.asarray(tokens.mask)[1].sum())
    alone = tokens_of(tokens.ids[1:2, :length], None, tokens.types[1:2, :length])
    np.testing.assert_allclose(network.pooled(params, tokens)[1], network.pooled(params, alone)[0], atol=1e-5)


def test_updates_of_low_rank_start_at_the_pretrained_network_and_change_it():
    """An update with B set is the same as a kernel to which alpha / rank A B was added."""
    pretrained = load_pretrained(REFERENCES / "qwen2")
    lora = LoRA(LowRank(2, 6.0, 0.0), ("query", "down"), first=1)
    network = Network(pretrained.config, None, lora)
    params, fresh = pretrained.params(network)
    made = [f"layers.1.{part}" for part in ("attention.query", "perceptron.down")]
    assert fresh == tuple(f"{path}.{name}" for path in made for name in ("lora_a", "lora_b"))
    tokens, expected = reference("qwen2")
    mask = np.asarray(tokens.mask)
    np.testing.assert_allclose(np.asarray(network.whole(params, tokens))[mask], expected[mask], atol=CLOSE)

    rng = np.random.default_rng(0)
    plain = Network(pretrained.config)
    merged, _ = pretrained.params(plain)
    for part in ("attention", "query"), ("perceptron", "down"):
        updated, kernel = params["layers"][1][part[0]][part[1]], merged["layers"][1][part[0]][part[1]]
        for name in ("lora_a", "lora_b"):
            updated[name] = rng.normal(size=updated[name].shape).astype(np.float32)
        kernel["kernel"] = kernel["kernel"] + 3.0 * updated["lora_a"] @ updated["lora_b"]
    changed = np.asarray(network.whole(params, tokens))[mask]
    assert np.abs(changed - expected[mask]).max() > 0.1
    np.testing.assert_allclose(changed, np.asarray(plain.whole(merged, tokens))[mask], atol=1e-4)


def test_dropout_is_a_function_of_its_key():
    pretrained = load_pretrained(REFERENCES / "bert")
    network = Network(pretrained.config, pretrained.classifier(3, dropout=0.1))
    params, _ = pretrained.params(network, "kept")
    tokens, _ = reference("bert")
    one, again, other = (np.asarray(network.whole(params, tokens, jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - np.asarray(network.whole(params, tokens))).max() > 1e-3


# What may be wrong with a checkpoint: variant, how it is spoiled, and what the error says.


def _rename(old, new):
    def spoil(folder):
        from safetensors.numpy import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        value = tensors.pop(old)
        save_file(tensors | ({new: value} if new else {}), folder / "model.safetensors")

    return spoil


def _config(**changes):
    def spoil(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return spoil


def _index(**weight_map):
    def spoil(folder):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return spoil


WORD = "bert.embeddings.word_embeddings.weight"
SPOILED = {
    "a tensor that no network has": (
        "bert",
        _rename(WORD, "bert.embeddings.words"),
        "not known: bert.embeddings.words",
    ),
    "a tensor is missing": ("bert", _rename(WORD, None), "does not fill token.embedding"),
    "a shape that config.json does not say": ("bert", _config(intermediate_size=20), "has shape"),
    "an unsupported family": ("bert", _config(model_type="t5"), "'t5' is not supported.*bert.*llama"),
    "an impossible configuration": ("bert", _config(hidden_size="many"), "config.json: cannot be read"),
    "an unknown family": ("bert", _config(model_type="nothing"), "'nothing' is not supported"),
    "relative positions": ("bert", _config(position_embedding_type="relative_key"), "position_embedding_type"),
    "an unknown activation": ("qwen2", _config(hidden_act="quick_gelu"), "'quick_gelu' is not supported"),
    "a sliding window": ("qwen2", _config(layer_types=["sliding_attention"] * 2), "sliding window"),
    "rotary positions of a kind that is not ours": (
        "llama3-tied",
        _config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}),
        "'yarn' are not supported",
    ),
    "no weights": ("bert", lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors and no"),
    "weights that execute code": (
        "bert",
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "there is pytorch_model.bin, which we do not read",
    ),
    "a broken weights file": (
        "bert",
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{"),
        "cannot be read",
    ),
    "an index without a file": (
        "llama-sharded-bf16",
        lambda folder: (folder / "model-00002-of-00003.safetensors").unlink(),
        "which is not there",
    ),
    "an index that points elsewhere": ("llama-sharded-bf16", _index(a="../bert/model.safetensors"), "not there"),
    "an index that is none": ("llama-sharded-bf16", _index(), "does not fill"),
    "no config.json": ("bert", lambda folder: (folder / "config.json").unlink(), "no config.json"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_wrong_with_a_checkpoint_is_said(what, tmp_path):
    variant, spoil, complaint = SPOILED[what]
    folder = tmp_path / variant
    shutil.copytree(REFERENCES / variant, folder)
    spoil(folder)

    def load():
        pretrained = load_pretrained(folder)
        return pretrained.params(network_of(pretrained, variant), "kept")

    with pytest.raises(InputError, match=complaint):
        load()


@pytest.mark.parametrize("name", ["./nowhere", Path("nowhere"), "/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(InputError, match="no such folder"):
        load_pretrained(name)


def test_a_repository_that_cannot_be_downloaded(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="neither a folder nor a repository"):
        load_pretrained("nobody/nothing")


def test_weights_are_identified_by_what_they_are(tmp_path):
    folder = tmp_path / "renamed"
    shutil.copytree(REFERENCES / "bert", folder)
    first = load_pretrained(REFERENCES / "bert").digest
    assert load_pretrained(folder).digest == first != load_pretrained(REFERENCES / "roberta").digest
