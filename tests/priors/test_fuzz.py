"""Whatever lies in a card's files, reading it gives a card that holds, or says what is wrong: nothing else ever
happens."""

import copy
import hashlib
import html
import json
import re
import struct

import numpy as np
import pytest

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors import PriorCard, load_card
from bayes_prehoc.priors.files import FILES, contents

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

SETTINGS = hypothesis.settings(
    max_examples=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from([0, -1, 1e308, -1e308, 5e-324, 2**63, True]),
)
LEAVES = st.one_of(
    st.none(),
    NUMBERS,
    st.text(max_size=30),
    st.sampled_from(["../../x", "<script>", "\ud800", "\x00", "\x1b[2J", "identity"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def assert_reads_or_complains(folder):
    """The property that every test here asserts; the card if there is one."""
    card, complaint = None, ""
    try:
        card = load_card(folder)
    except InputError as error:
        complaint = str(error)
    assert complaint.isprintable() and len(complaint) < 2000
    if card is None:
        assert complaint
        return None
    assert isinstance(card, PriorCard)
    assert np.all(np.isfinite(card.log_density(card.sample(5))))
    assert np.all(np.isfinite(card.draws))
    # Whatever was read can be shown and written again.
    assert np.all(np.isfinite(card.summary().to_numpy()))
    assert set(contents(card)) == set(FILES)
    return card


def places(document, path=()):
    """Paths of all parts of a document; of long lists the first two."""
    yield path
    if isinstance(document, dict):
        for key in document:
            yield from places(document[key], (*path, key))
    elif isinstance(document, list):
        for index in range(min(len(document), 2)):
            yield from places(document[index], (*path, index))


def changed(document, path, value):
    """A copy with another value there."""
    if not path:
        return value
    found = copy.deepcopy(document)
    part = found
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return found


@pytest.fixture
def whole(saved):
    """The folder, and its files as bytes."""
    return saved, {file.name: file.read_bytes() for file in saved.iterdir()}


def put_back(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


@SETTINGS
@hypothesis.given(data=st.data())
def test_any_field_of_prior_json(whole, data):
    folder, files = whole
    put_back(folder, files)
    document = json.loads(files["prior.json"])
    path = data.draw(st.sampled_from(list(places(document))))
    value = data.draw(VALUES)
    (folder / "prior.json").write_text(json.dumps(changed(document, path, value)), encoding="utf-8")
    assert_reads_or_complains(folder)


@SETTINGS
@hypothesis.given(data=st.data())
def test_any_number_of_prior_json_moved(whole, data):
    folder, files = whole
    put_back(folder, files)
    document = json.loads(files["prior.json"])
    numbers = [path for path in places(document["mixture"]) if path and path[0] != "weight" and len(path) > 1]
    path = data.draw(st.sampled_from([path for path in numbers if isinstance(path[-1], int)]))
    value = data.draw(st.floats(allow_nan=False, allow_infinity=False))
    (folder / "prior.json").write_text(json.dumps(document | {"mixture": changed(document["mixture"], path, value)}))
    card = assert_reads_or_complains(folder)
    # A density that is another one is never taken.
    if card is not None:
        original = np.array(document["reference"]["log_density"])
        assert card.log_density(np.array(document["reference"]["points"])) == pytest.approx(original, abs=1e-6)


@SETTINGS
@hypothesis.given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "ignore"))
)
@pytest.mark.parametrize("name", ["prior.json", "draws.safetensors", "checks.json"])
def test_any_bytes(whole, name, content):
    folder, files = whole
    put_back(folder, files)
    (folder / name).write_bytes(content)
    if name != "prior.json":
        listed(folder, name, content)
    assert assert_reads_or_complains(folder) is None


def listed(folder, name, content):
    """Bring the hash in prior.json in line, so that the parser is reached."""
    document = json.loads((folder / "prior.json").read_text())
    document["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "prior.json").write_text(json.dumps(document))


@SETTINGS
@hypothesis.given(data=st.data())
def test_any_bytes_of_the_draws_changed(whole, data):
    folder, files = whole
    put_back(folder, files)
    content = bytearray(files["draws.safetensors"])
    # Most of it are numbers: the header comes first.
    end = data.draw(st.sampled_from([8, 200, len(content)]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    content = bytes(content[:cut])
    (folder / "draws.safetensors").write_bytes(content)
    listed(folder, "draws.safetensors", content)
    assert_reads_or_complains(folder)


@SETTINGS
@hypothesis.given(data=st.data())
def test_any_header_of_the_draws(whole, data):
    folder, files = whole
    put_back(folder, files)
    raw = files["draws.safetensors"]
    (length,) = struct.unpack("<Q", raw[:8])
    header, numbers = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    path = data.draw(st.sampled_from(list(places(header))))
    value = data.draw(VALUES | st.sampled_from(["F64", "U8", "F4", "I64", [2**62, 2**62], [0, 14], [800, 0], [0, 0]]))
    text = json.dumps(changed(header, path, value)).encode()
    content = struct.pack("<Q", data.draw(st.sampled_from([len(text), len(text) + 1, 0, 2**63]))) + text + numbers
    (folder / "draws.safetensors").write_bytes(content)
    listed(folder, "draws.safetensors", content)
    assert_reads_or_complains(folder)


@SETTINGS
@hypothesis.given(data=st.data())
def test_any_field_of_checks_json(whole, data):
    folder, files = whole
    put_back(folder, files)
    document = json.loads(files["checks.json"])
    path = data.draw(st.sampled_from(list(places(document))))
    content = json.dumps(changed(document, path, data.draw(VALUES))).encode()
    (folder / "checks.json").write_bytes(content)
    listed(folder, "checks.json", content)
    assert_reads_or_complains(folder)


@SETTINGS
@hypothesis.given(text=st.text(max_size=200))
def test_any_text_in_a_card_for_people(make, text):
    from bayes_prehoc.priors.text import escaped

    found = escaped(text)
    assert not set("<>\n") & set(found)
    # Every sign that could be markup stands behind a backslash, and what is read is what was written.
    plain = re.sub(r"\\(.)", r"\1", found)
    assert html.unescape(plain) == " ".join(text.split())
    for place, character in enumerate(found):
        if character in "`*_[]|":
            assert found[place - 1] == "\\"
