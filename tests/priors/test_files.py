"""Cards as folders: there and back, found by name, and hostile ones."""

import hashlib
import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy import stats

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import Calibration, Units, load_card
from bayes_prehoc.priors.files import FILES, SCHEMA_VERSION


def rewritten(folder, change):
    """Change the parsed prior.json."""
    file = folder / "prior.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def with_bytes(folder, name, content):
    """Another file, with the hash that prior.json lists brought in line, so that only what is in it is looked at."""
    (folder / name).write_bytes(content)
    rewritten(folder, lambda document: document["sha256"].update({name: hashlib.sha256(content).hexdigest()}))


def test_there_and_back(make, tmp_path):
    card = make.card(
        task_names=tuple(f"task {i}" for i in range(12)), description="Two\n\nparagraphs.", citation="@misc{a}"
    ).converted(Units(depth=0.2))
    object.__setattr__(card, "calibration", (Calibration("coverage", 0.91, "share", "0.9", True),))
    card.save(tmp_path / "card")
    again = load_card(tmp_path / "card")
    for field in ("scope", "provenance", "sites", "population", "diagnostics", "calibration"):
        assert getattr(again, field) == getattr(card, field), field
    assert np.array_equal(again.draws, card.draws) and np.array_equal(again.fingerprints, card.fingerprints)
    y = card.sample(20)
    assert np.array_equal(again.log_density(y), card.log_density(y))
    again.save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "card" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_its_files_are_plain_and_small(saved):
    assert {file.name for file in saved.iterdir()} == set(FILES)
    assert sum(file.stat().st_size for file in saved.iterdir()) < 200_000
    assert not any("run 3" in file.read_bytes().decode("latin-1") for file in saved.iterdir())
    assert (saved / "prior.json").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_card_is_replaced_and_nothing_else_is(card, make, saved, tmp_path):
    make.card(at=0.0, name="other").save(saved)
    assert load_card(saved).name == "other"
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        card.save(saved)
    assert (saved / "notes.txt").read_text() == "mine" and load_card(saved).name == "other"
    (tmp_path / "file").write_text("mine")
    for place, words in ((tmp_path / "file", "no folder"), (tmp_path / "no" / "where", "does not exist")):
        with pytest.raises(InputError, match=words):
            card.save(place)
    (tmp_path / "link").symlink_to(saved)
    with pytest.raises(InputError, match="no folder"):
        card.save(tmp_path / "link")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["card", "file", "link"]


def test_a_write_that_fails_leaves_the_card_that_was_there(card, saved, monkeypatch):
    before = (saved / "prior.json").read_bytes()
    monkeypatch.setattr("bayes_prehoc.priors.files.share_as_usual", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        card.save(saved)
    assert (saved / "prior.json").read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["card"]


def _full_disk(path):
    raise OSError(28, "No space left on device")


def test_by_name(card, tmp_path, monkeypatch):
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(tmp_path))
    (tmp_path / "priors").mkdir()
    card.save(tmp_path / "priors" / "mine")
    assert load_card("mine").name == card.name
    for absent in (None, 3, "none", "nul\0", "a" * 5000):
        with pytest.raises(InputError):
            load_card(absent)


@pytest.mark.parametrize("name", ["../mine", "/etc", "priors/../mine", "..", ".", ""])
def test_a_name_leads_nowhere_else(card, tmp_path, monkeypatch, name):
    (tmp_path / "models" / "priors").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    card.save(tmp_path / "models" / "mine")
    monkeypatch.setenv("BAYES_PREHOC_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError):
        load_card(name)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_cards_of_every_schema_version_stay_readable(version):
    from pathlib import Path

    card = load_card(Path(__file__).parent / "references" / f"version-{version}")
    # Figures of the file itself, by SciPy.
    of = card.mixture
    y = card.draws[::50]
    parts = [w * stats.multivariate_normal(m, s).pdf(y) for w, m, s in zip(*of, strict=True)]
    assert card.log_density(y) == pytest.approx(np.log(np.sum(parts, axis=0)), abs=1e-8)
    assert len(of.weight) == 2
    assert card.name == "golden" and card.scope.metric_kinds == ("accuracy", "loss")
    assert card.seen(["run 0"]) == ["run 0"]
    assert card.summary().loc["mu_rate", "median"] == pytest.approx(-0.898575, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format="else"), "not that of a prior card"),
        (lambda d: d.update(schema_version=99), "reads up to"),
        (lambda d: d.update(schema_version="1"), "not a whole number"),
        (lambda d: d.update(schema_version=0), "out of range"),
        (lambda d: d.update(extra=1), "'extra' is unknown"),
        (lambda d: d.pop("weak"), "'weak' is missing"),
        (lambda d: d["scope"].update(units=[1, 2]), "not an object"),
        (lambda d: d["scope"]["units"].update(depth=-1), "positive"),
        (lambda d: d["provenance"].update(name="../../etc/passwd"), "cannot be a name"),
        (lambda d: d["provenance"].update(description={"a": 1}), "not a text"),
        (lambda d: d["provenance"].update(licence="\ud800"), "U\\+D800"),
        (lambda d: d["sites"][0].update(shape=[10**12]), "1 labels for 1000000000000"),
        (lambda d: d["sites"][0].update(shape=[10**400]), "out of range"),
        (lambda d: d["sites"][0].update(shape=[1] * 9), "at most 4"),
        (lambda d: d["sites"][4].update(shape=[10**9, 10**9]), "3 labels for"),
        (lambda d: d["sites"][0].update(labels=["x"] * 201), "201 entries"),
        (lambda d: d["sites"].extend(d["sites"] * 30), "entries"),
        (lambda d: d["sites"][3]["transform"].update(kind="__import__('os')"), "is no transform"),
        (lambda d: d["sites"][3]["transform"].update(kind=["half_normal"]), "no kind"),
        (lambda d: d["sites"][3]["transform"]["parameters"].update(scale=[True] * 3), "not a number"),
        (lambda d: d["sites"][3]["transform"].update(parameters={str(i): [1.0] for i in range(9)}), "9 parameters"),
        (lambda d: d["mixture"]["mean"][0].__setitem__(13, 800.0), "lies at 800"),
        (lambda d: d["weak"]["scale"].__setitem__(0, 5e-324), "not positive"),
        (lambda d: d["mixture"].update(weight=[1.0] * 5), "5 entries"),
        (lambda d: d["mixture"].update(weight=[]), "1 entries, not 0"),
        (lambda d: d["mixture"]["mean"][0].append(0.0), "15 entries, not 14"),
        (lambda d: d["mixture"]["mean"].__setitem__(0, 3), "not a list"),
        (lambda d: d["mixture"]["covariance"][0][0].__setitem__(0, -1.0), "positive definite"),
        (lambda d: d["mixture"]["covariance"][0][0].__setitem__(1, 0.3), "symmetric"),
        (lambda d: d["mixture"]["mean"][0].__setitem__(0, 10**400), "out of range"),
        (lambda d: d["mixture"]["mean"][0].__setitem__(0, -6.0), "not that of its draws"),
        (lambda d: d["mixture"]["mean"][0].__setitem__(0, d["mixture"]["mean"][0][0] + 1e-7), "off by"),
        (lambda d: d["reference"]["log_density"].__setitem__(0, 0.0), "off by"),
        (lambda d: d["reference"].update(points=[], log_density=[]), "no point"),
        (lambda d: d["sha256"].update({"checks.json": "0" * 64}), "not the file"),
        (lambda d: d["sha256"].update({"../other": "0" * 64}), "is unknown"),
        (lambda d: d["population"].update(mu_share="<script>"), "no coordinate"),
        (lambda d: d.update(population=[]), "no object"),
    ],
)
def test_a_document_that_is_not_as_it_must_be(saved, change, words):
    rewritten(saved, change)
    with pytest.raises(InputError, match=words) as error:
        load_card(saved)
    assert str(saved) in str(error.value)
    assert all(character.isprintable() for character in str(error.value))


def test_units_of_any_size_are_converted(saved):
    rewritten(saved, lambda document: document["scope"].update(units={"depth": 1e300, "risk": 1e-300}))
    found = load_card(saved).converted(Units())
    assert np.all(np.isfinite(found.mixture.mean))
    assert np.all(np.isfinite(found.summary().to_numpy()))


def test_deep_nesting_nan_and_what_is_no_json(saved):
    file = saved / "prior.json"
    whole = file.read_text()
    deep = "[" * 1_000_000 + "]" * 1_000_000
    for content, words in (
        (deep, "nested too deeply"),
        ('{"format": ' * 200_000, "nested too deeply|not JSON"),
        (whole.replace('"schema_version": 1', '"schema_version": NaN'), "NaN is no number"),
        (whole.replace('"schema_version": 1', '"schema_version": -Infinity'), "-Infinity is no number"),
        (whole.replace('"schema_version": 1', '"schema_version": 1, "schema_version": 1'), "twice"),
        (whole.replace('"reference_depth": 0.2', '"reference_depth": 1e999'), "inf"),
        (whole.replace('"schema_version": 1', '"schema_version": ' + "9" * 10_000), "not JSON"),
        ("", "not JSON"),
        ("[]", "not that of a prior card"),
        ("null", "not that of a prior card"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=words):
            load_card(saved)
    for content in (b"\xff\xfe\x00", b"\x80\x04\x95" + b"x" * 40):
        file.write_bytes(content)
        with pytest.raises(InputError, match="not JSON"):
            load_card(saved)


def tensors(folder):
    return load_tensors((folder / "draws.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t | {"draws": t["draws"].astype(np.float32)}, "F32"),
        (lambda t: t | {"draws": t["draws"][:, 1:]}, "columns"),
        (lambda t: t | {"draws": t["draws"].reshape(-1)}, "columns"),
        (lambda t: t | {"draws": np.where(t["draws"] > 0, np.nan, t["draws"])}, "not finite"),
        (lambda t: t | {"draws": t["draws"][:0]}, "0 draws"),
        (lambda t: t | {"draws": np.tile(t["draws"], (3, 1))}, "1500 draws"),
        (lambda t: t | {"draws": t["draws"][::-1] * 1.5}, "not that of its draws"),
        (lambda t: t | {"more": t["draws"]}, "It must hold"),
        (lambda t: {"draws": t["draws"]}, "It must hold"),
        (lambda t: t | {"fingerprints": t["fingerprints"].astype(np.int64)}, "I64"),
        (lambda t: t | {"fingerprints": t["fingerprints"][:0]}, "0 runs"),
    ],
)
def test_draws_that_are_not_as_they_must_be(saved, change, words):
    changed = {name: np.ascontiguousarray(part) for name, part in change(tensors(saved)).items()}
    with_bytes(saved, "draws.safetensors", save_tensors(changed))
    with pytest.raises(InputError, match=words):
        load_card(saved)


def test_a_header_that_promises_more_than_there_is(saved):
    def header(content, length=None):
        raw = json.dumps(content).encode()
        return struct.pack("<Q", len(raw) if length is None else length) + raw

    huge = {"dtype": "F64", "shape": [2**40, 14], "data_offsets": [0, 2**40 * 14 * 8]}
    wrapped = {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 0]}
    for content in (
        header({"draws": huge}),
        header({"draws": wrapped}),
        header({}, 2**63),
        header({"draws": 3}),
        b"",
        b"\x80\x04\x95 pickle",
        (saved / "draws.safetensors").read_bytes()[:-1],
        (saved / "draws.safetensors").read_bytes() + b"more",
    ):
        with_bytes(saved, "draws.safetensors", content)
        with pytest.raises(InputError, match="no safetensors file"):
            load_card(saved)


def test_checks_that_are_not_as_they_must_be(saved):
    good = json.loads((saved / "checks.json").read_text())
    failed = good["diagnostics"][0] | {"passed": False}
    for changed, words in (
        ({}, "missing"),
        (good | {"diagnostics": [failed]}, "was not passed"),
        (good | {"diagnostics": [3]}, "not an object"),
        (good | {"diagnostics": [good["diagnostics"][0] | {"passed": 1}]}, "was not passed"),
        (good | {"calibration": [{"name": "a"}]}, "missing"),
        (good | {"calibration": "all"}, "not a list"),
    ):
        with_bytes(saved, "checks.json", json.dumps(changed).encode())
        with pytest.raises(InputError, match=words):
            load_card(saved)


@pytest.mark.parametrize("name", ["prior.json", "draws.safetensors", "checks.json"])
def test_what_is_no_plain_file_of_the_folder(saved, tmp_path, name):
    file, elsewhere = saved / name, tmp_path / name
    file.rename(elsewhere)
    with pytest.raises(InputError, match=rf"{name}: there is no such file"):
        load_card(saved)
    file.symlink_to(elsewhere)
    with pytest.raises(InputError, match="it is a link"):
        load_card(saved)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="no plain file"):
        load_card(saved)
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match="no plain file|cannot be read"):
        load_card(saved)


@pytest.mark.parametrize("name", ["prior.json", "draws.safetensors", "checks.json"])
def test_a_huge_file_is_not_read(saved, name):
    with (saved / name).open("ab") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(InputError, match="has more than"):
        load_card(saved)


def test_what_a_stranger_wrote_is_no_markup_for_people(make, tmp_path):
    hostile = "<script>alert(1)</script> [x](javascript:x) | `a` **b** <img src=x onerror=y> &lt; https://bad.example"
    card = make.card(
        kinds=("accuracy",),
        description=hostile + "\n\n---\nlicense: mit\n# Head",
        citation="```\n<b>x</b>",
        licence=hostile,
    )
    card.save(tmp_path / "card")
    text = (tmp_path / "card" / "card.md").read_text()
    head, body = text.split("---\n")[1:3] if text.count("---\n") == 2 else (None, None)
    assert head is not None, "what was written cannot end the header"
    assert "license: other" in head and "\nlicense: mit" not in text
    assert "&lt;script&gt;alert\\(1\\)&lt;/script&gt;" in body
    outside = "\n".join(line for line in body.splitlines() if not line.startswith("    "))
    for markup in ("<script", "<img", "](", "`a`", "**b**", "\n# Head", "https://"):
        assert markup not in outside, markup
    assert load_card(tmp_path / "card").provenance.licence == hostile


def test_the_header_is_what_the_hub_reads(saved):
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load((saved / "card.md").read_text().split("---\n")[1])
    assert head == {
        "license": "cc0-1.0", "library_name": "bayes-prehoc", "tags": ["bayes-prehoc", "prior-card", "run_to_run"]
    }  # fmt: skip
