"""Tests of where compiled programs are kept."""

import platform

import jax
import pytest

from bayes_prehoc._programs import keep_programs

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    """The folder for caches, with JAX's settings as they are before any command; they are put back."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "caches"
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_folder_for_caches(cache_folder):
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(cache_folder / "bayes-prehoc" / platform.node())
    assert (cache_folder / "bayes-prehoc").is_dir()


def test_a_folder_that_the_user_chose_stays(cache_folder, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert not cache_folder.exists()


def test_without_a_folder_for_caches_nothing_is_kept(cache_folder):
    cache_folder.write_text("a file, not a folder")
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_without_a_home_folder_nothing_is_kept(cache_folder, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("bayes_prehoc._programs.Path.home", no_home)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None
