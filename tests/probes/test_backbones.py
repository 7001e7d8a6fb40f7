"""The committed backbones load, are small, and reach what their cards say; damaged ones are explained."""

import importlib.util
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes import suite
from bayes_prehoc.probes.backbones import (
    DecoderConfig,
    MLPConfig,
    build,
    find_backbone,
    forward,
    load_backbone,
    new_head,
    save_backbone,
)

pytest.importorskip("sklearn")
FOLDER = Path(__file__).resolve().parents[2] / "models" / "backbones"
NAMES = sorted({spec.backbone for spec in suite()})


@pytest.fixture(scope="module")
def pretrain():
    """The script that makes the backbones."""
    spec = importlib.util.spec_from_file_location("pretrain", FOLDER / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_backbone_of_the_suite_has_a_recipe(pretrain):
    assert set(NAMES) == set(pretrain.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_backbone_is_small_and_reaches_what_its_card_says(pretrain, name):
    folder = find_backbone(name)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "card.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    backbone = load_backbone(name)
    assert backbone.config == pretrain.RECIPES[name].config
    reached = backbone.reached
    assert pretrain.measure(name) == pytest.approx(reached["value"], abs=2e-3)
    assert f"{reached['metric']} {reached['value']:.3f} on {reached['on']}" in (folder / "card.md").read_text()


@pytest.mark.parametrize("config", [MLPConfig(5, (4, 3), 2), DecoderConfig(7, 6, 2, 8, 2, 2, 12)])
def test_saved_backbones_load_as_they_were(tmp_path, monkeypatch, config):
    params = build(config, jax.random.key(0))
    save_backbone(tmp_path / "backbones" / "mine", config, params, {"metric": "m", "value": 1.0, "on": "x"}, "card")
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(tmp_path))
    loaded = load_backbone("mine")
    assert loaded.config == config
    jax.tree.map(np.testing.assert_array_equal, loaded.params, jax.tree.map(np.asarray, params))


def test_decoder_answers_do_not_see_later_tokens():
    config = DecoderConfig(7, 6, 3, 8, 2, 2, 12)
    params = build(config, jax.random.key(0))
    tokens = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 0]])
    logits = np.asarray(forward(config, params, tokens))
    assert logits.shape == (2, 3, 7)
    np.testing.assert_allclose(logits[0, :2], logits[1, :2], atol=1e-6)
    assert np.abs(logits[0, 2] - logits[1, 2]).max() > 1e-3


def test_new_head_replaces_the_output_layer():
    config = MLPConfig(5, (4,), 2)
    params = build(config, jax.random.key(0))
    params = params | {"head": new_head(config, 3, jax.random.key(1))}
    assert forward(config, params, np.ones((6, 5), np.float32)).shape == (6, 3)


def test_missing_backbone_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(tmp_path))
    with pytest.raises(InputError, match=str(tmp_path)):
        load_backbone("nobody")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"not weights"),
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("config.json", b'{"network": {"kind": "cnn"}, "reached": {}}'),
        ("config.json", b'{"network": {"kind": "mlp", "depth": 3}, "reached": {}}'),
    ],
)
def test_damaged_backbone_is_explained(monkeypatch, tmp_path, file, content):
    shutil.copytree(FOLDER / "wine-features", tmp_path / "backbones" / "wine-features")
    (tmp_path / "backbones" / "wine-features" / file).write_bytes(content)
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(tmp_path))
    with pytest.raises(InputError, match="wine-features"):
        load_backbone("wine-features")
