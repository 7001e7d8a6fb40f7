"""Cards on the hub: its real client against a stand-in of the hub's interface."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors.hub import pull_card, push_card

constants = pytest.importorskip("huggingface_hub.constants")

# The client's own way of uploading by Git LFS.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

# Test modules are imported by path, not by name.
_spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).with_name("stand_in.py"))
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)


def at(monkeypatch, address):
    """What the client makes of HF_ENDPOINT when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with somebody logged in; the client uploads by Git LFS, since the other protocol is not in the stand-in."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", stand_in.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with stand_in.running() as (hub, address):
        at(monkeypatch, address)
        yield hub


def test_there_and_back(hub, card):
    address = push_card(card, "somebody/priors", private=True)
    assert address.endswith("/somebody/priors/commit/" + "c" * 40)
    stored = hub.repositories["somebody/priors"]
    assert set(stored) == {"prior.json", "draws.safetensors", "checks.json", "card.md", "README.md"}
    assert stored["README.md"] == stored["card.md"] and stored["README.md"].startswith(b"---\nlicense: cc0-1.0\n")
    assert hub.private["somebody/priors"] in ("private", True)
    assert list(hub.blobs.values()) == [stored["draws.safetensors"]]
    again = pull_card("somebody/priors")
    assert again.provenance == card.provenance
    assert np.array_equal(again.draws, card.draws)


def test_a_second_push_is_another_commit(hub, card, make):
    push_card(make.card(at=0.0, name="old"), "somebody/priors")
    push_card(card, "somebody/priors")
    assert pull_card("somebody/priors", revision="main").name == card.name


def test_only_the_files_of_a_card_are_fetched(hub, card):
    push_card(card, "somebody/priors")
    hub.repositories["somebody/priors"] |= {"evil.py": b"raise SystemExit", "../up": b"x", "model.bin": b"x" * 1000}
    hub.calls.clear()
    pull_card("somebody/priors")
    fetched = {path.rpartition("/")[2] for method, path in hub.calls if method == "GET" and "/resolve/" in path}
    assert fetched == {"prior.json", "draws.safetensors", "checks.json"}


def test_what_is_too_large_is_not_fetched(hub, card):
    push_card(card, "somebody/priors")
    hub.sizes["draws.safetensors"] = 2**40
    hub.calls.clear()
    with pytest.raises(InputError, match="1099511627776 bytes"):
        pull_card("somebody/priors")
    assert not any("draws" in path for _, path in hub.calls)


def test_a_hostile_repository(hub, card):
    push_card(card, "somebody/priors")
    good = dict(hub.repositories["somebody/priors"])
    hub.repositories["somebody/priors"]["prior.json"] = good["prior.json"].replace(b'"run_to_run"', b'"\\u001b[2J"', 1)
    with pytest.raises(InputError, match=r"card in somebody/priors: scope"):
        pull_card("somebody/priors")
    hub.repositories["somebody/priors"] = {name: good[name] for name in good if name != "checks.json"}
    with pytest.raises(InputError, match=r"no checks\.json in it"):
        pull_card("somebody/priors")


def test_what_the_hub_refuses_is_one_error(hub, card, monkeypatch):
    with pytest.raises(InputError, match="somebody/none.*Check the name"):
        pull_card("somebody/none")
    push_card(card, "somebody/priors")
    with pytest.raises(InputError, match="Name a branch"):
        pull_card("somebody/priors", revision="nowhere")
    with pytest.raises(InputError, match="owner/name"):
        pull_card("some body/../priors")
    hub.full = True
    with pytest.raises(InputError, match="Error while uploading"):
        push_card(card, "somebody/others")
    assert hub.repositories["somebody/others"] == {}
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(InputError, match="logged in"):
        push_card(card, "somebody/priors")


def test_a_hub_that_is_not_there(card, monkeypatch):
    at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(InputError, match="Check the connection"):
        pull_card("somebody/priors")


def test_without_the_client(card, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (lambda: pull_card("somebody/priors"), lambda: push_card(card, "somebody/priors")):
        with pytest.raises(InputError, match=r"bayes-prehoc\[hub\]"):
            use()
