"""The scripts that set the project up: which Python they find, and what they call the lowest versions."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOWEST = [sys.executable, ROOT / "tools" / "lowest-direct"]


class Machine:
    """A machine whose PATH, pyenv folder and uv hold what a test puts there."""

    def __init__(self, folder):
        self.bin, self.pyenv = folder / "bin", folder / "pyenv"
        self.bin.mkdir()
        self.env = {"PATH": str(self.bin), "HOME": str(folder), "PYENV_ROOT": str(self.pyenv)}

    def python(self, path, version=(3, 12), has_venv=True):
        """A stand-in for an interpreter: it answers the three questions that are asked of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "#!/bin/sh\n"
            'case "$2" in\n'
            f"*version_info*) exit {int(version < (3, 12))} ;;\n"
            f'*executable*) echo "{path}" ;;\n'
            f"*ensurepip*) exit {int(not has_venv)} ;;\n"
            "*) exit 9 ;;\n"
            "esac\n"
        )
        path.chmod(0o755)
        return path

    def uv(self, found):
        script = self.bin / "uv"
        script.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "python find >=3.12" ] && echo "{found}"\n')
        script.chmod(0o755)

    def find(self, **env):
        return subprocess.run(
            ["/bin/sh", ROOT / "tools" / "find-python"],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_named_python_comes_first(machine, tmp_path):
    machine.python(machine.bin / "python3")
    named = machine.python(tmp_path / "mine" / "python")
    done = machine.find(PYTHON=str(named))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{named}\n", "")


def test_a_named_python_that_is_too_old_is_said_and_passed_over(machine, tmp_path):
    other = machine.python(machine.bin / "python3")
    old = machine.python(tmp_path / "old" / "python", version=(3, 11))
    done = machine.find(PYTHON=str(old))
    assert (done.returncode, done.stdout) == (0, f"{other}\n")
    assert f"PYTHON={old}" in done.stderr


def test_path_comes_before_pyenv_and_pyenv_before_uv(machine, tmp_path):
    of_uv = machine.python(tmp_path / "uv" / "python3.12")
    machine.uv(of_uv)
    assert machine.find().stdout == f"{of_uv}\n"
    of_pyenv = machine.python(machine.pyenv / "versions" / "3.12.7" / "bin" / "python")
    assert machine.find().stdout == f"{of_pyenv}\n"
    on_path = machine.python(machine.bin / "python3.12")
    assert machine.find().stdout == f"{on_path}\n"


@pytest.mark.parametrize("first", [{"version": (3, 9)}, {"has_venv": False}])
def test_what_cannot_be_used_is_passed_over(machine, first):
    machine.python(machine.bin / "python3", **first)
    good = machine.python(machine.pyenv / "versions" / "3.13.0" / "bin" / "python")
    assert machine.find().stdout == f"{good}\n"


@pytest.mark.parametrize("there", [None, {"version": (3, 11)}])
def test_without_any_python_it_says_what_to_install(machine, there):
    if there:
        machine.python(machine.bin / "python3", **there)
    done = machine.find()
    assert (done.returncode, done.stdout) == (1, "")
    for remedy in (
        "No Python >= 3.12",
        "apt-get install python3.12",
        "pyenv install",
        "uv python install",
        "make PYTHON=",
    ):
        assert remedy in done.stderr


def test_a_python_without_venv_is_named_with_the_package_that_is_missing(machine):
    bare = machine.python(machine.bin / "python3.12", has_venv=False)
    done = machine.find()
    assert (done.returncode, done.stdout) == (1, "")
    assert str(bare) in done.stderr and "python3-venv" in done.stderr


def _direct(extra=None):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.split(r"[\[>=<~! ]", requirement)[0] for requirement in listed} - {project["name"]}


def _lowest(*extras):
    done = subprocess.run([*LOWEST, *extras], capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in done.stdout.splitlines())


def test_the_lowest_version_of_every_direct_dependency_is_listed():
    assert set(_lowest()) == _direct()
    # The extra `test` stands on five others.
    every = _direct("test").union(*map(_direct, ("suite", "parquet", "models", "optuna", "notebooks")))
    assert set(_lowest("test")) == _direct() | every


def _as_numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_pinned_versions_are_plain_lie_in_the_range_and_leave_torch_out():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    for name, lowest in _lowest("test").items():
        assert _as_numbers(pinned[name]) >= _as_numbers(lowest), name
    assert "torch" not in pinned


def test_a_dependency_without_a_plain_lower_bound_is_an_error(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "lowest-direct").write_text((ROOT / "tools" / "lowest-direct").read_text())
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["numpy~=2.0"]\n')
    done = subprocess.run([sys.executable, tools / "lowest-direct"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'numpy~=2.0'" in done.stderr and "name>=version" in done.stderr


def test_the_makefile_has_the_targets_that_the_guide_describes():
    guide = (ROOT / "docs" / "development.md").read_text()
    described = set(re.findall(r"`make ([\w-]+)`", guide))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert described == targets
    mentioned = re.findall(r"\$\(BIN\)/python ([\w/]+\.py)", (ROOT / "Makefile").read_text())
    assert mentioned
    assert [script for script in mentioned if not os.path.exists(ROOT / script)] == []
