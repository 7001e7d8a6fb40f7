"""The package as a whole: what imports what, what importing it does, what is public, and what the wheel carries."""

import ast
import functools
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import bayes_prehoc as bp

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bayes_prehoc"
# Each may import itself and what stands above it.
LAYERS = (
    "errors",
    "_files",
    "_machine",
    "watching",
    "theory",
    "runs",
    "risk",
    "probes",
    "priors",
    "hierarchy",
    "planning",
    "report",
    "integrations",
)
COMMAND_LINE = ("_programs", "_terminal", "_console", "_arguments", "_planning_commands", "_prior_commands", "cli")


def _imported(tree, file):
    """First names below bayes_prehoc that a module imports, wherever the import stands in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative imports hide which package is meant"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            package, _, rest = module.partition(".")
            if package == "bayes_prehoc":
                yield node.lineno, rest.partition(".")[0]


def _not_allowed(source, file):
    """Imports of a module that its layer does not allow, as "line: name"."""
    first = Path(file).parts[0].removesuffix(".py")
    if first not in LAYERS:
        assert first in (*COMMAND_LINE, "__init__"), f"{file}: say in LAYERS where it belongs"
        return []
    allowed = LAYERS[: LAYERS.index(first) + 1]
    return [
        f"{line}: {name or 'bayes_prehoc'}" for line, name in _imported(ast.parse(source), file) if name not in allowed
    ]


def _modules():
    return sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", _modules())
def test_a_package_imports_only_packages_above_it(file):
    assert _not_allowed((PACKAGE / file).read_text(), file) == []


@pytest.mark.parametrize(
    ("file", "source", "complaints"),
    [
        ("risk/a.py", "from bayes_prehoc.runs import TaskRuns\nfrom bayes_prehoc import theory", []),
        ("risk/a.py", "import numpy\nimport bayes_prehoc.hierarchy.fit", ["2: hierarchy"]),
        ("risk/a.py", "def f():\n    from bayes_prehoc.planning import plan", ["2: planning"]),
        ("risk/a.py", "import bayes_prehoc as bp", ["1: bayes_prehoc"]),
        ("hierarchy/a.py", "from bayes_prehoc import fit", ["1: fit"]),
        ("theory.py", "from bayes_prehoc.cli import main", ["1: cli"]),
        ("cli.py", "import bayes_prehoc as bp", []),
    ],
)
def test_the_layers_are_really_checked(file, source, complaints):
    assert _not_allowed(source, file) == complaints


def _third_party():
    """First names of what the package imports besides the standard library and itself."""
    names = set()
    for file in _modules():
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"bayes_prehoc"}


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def modules(requirements):
        declared = {re.split(r"[\[>]", requirement)[0] for requirement in requirements}
        return {{"scikit-learn": "sklearn"}.get(name, name.replace("-", "_")) for name in declared}

    core = modules(project["dependencies"])
    extras = project["optional-dependencies"]
    extra = modules([r for name in ("suite", "parquet", "models", "optuna", "hub") for r in extras[name]])
    # Parts of declared ones: h5netcdf[h5py], jinja2 and jax.
    parts = {"h5py", "markupsafe", "ml_dtypes"}
    # xarray calls it by name.
    by_name = {"h5netcdf"}
    assert _third_party() - parts <= core | extra
    assert (core | extra) - by_name <= _third_party()


def test_every_public_name_is_there_and_means_what_editors_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (seen,) = (node for node in tree.body if isinstance(node, ast.If))
    for_editors = {
        (node.module.removeprefix("bayes_prehoc."), alias.name)
        for node in seen.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_editors == {(place, name) for place, names in bp._PLACES.items() for name in names}
    assert {name for _, name in for_editors} | {"__version__"} == set(bp.__all__) <= set(dir(bp))
    for place, name in for_editors:
        assert getattr(bp, name) is getattr(importlib.import_module(f"bayes_prehoc.{place}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bp.nonsense


def test_verbs_are_functions_even_where_a_subpackage_bears_the_name():
    for verb in ("probe", "suite", "read_runs", "estimate_risk", "fit", "plan", "write_report"):
        assert inspect.isfunction(getattr(bp, verb)), verb


def _public(thing):
    """A public thing and the public methods and properties that its own classes give it."""
    yield thing.__qualname__, thing
    if not inspect.isclass(thing):
        return
    ours = [c for c in thing.__mro__ if c.__module__.startswith("bayes_prehoc")]
    for name, member in {n: m for c in reversed(ours) for n, m in vars(c).items()}.items():
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if not name.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, property | functools.cached_property)
        ):
            yield f"{thing.__qualname__}.{name}", member


@pytest.mark.parametrize("name", [name for name in bp.__all__ if name != "__version__"])
def test_what_is_public_is_documented(name):
    for place, thing in _public(getattr(bp, name)):
        # A dataclass without a docstring gets its signature for one.
        text = (thing.__doc__ or "").strip()
        assert text and not text.startswith(f"{place}("), f"{place} has no docstring"


def _python(code, *, interpreter=sys.executable, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("BAYES_PREHOC_MODELS", "PYTHONPATH")}
    done = subprocess.run(
        [interpreter, "-c", code], capture_output=True, text=True, env=environment, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_opens_no_file_and_loads_nothing_heavy():
    code = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import bayes_prehoc
code = (".py", ".pyc", ".so")
heavy = {"jax", "pandas", "numpyro", "matplotlib", "xarray"} & set(sys.modules)
print(json.dumps([[f for f in opened if not f.endswith(code)], sorted(heavy)]))
"""
    assert _python(code) == [[], []]


def test_using_every_public_name_touches_no_device_and_no_setting():
    code = """
import json, jax
before = dict(jax.config.values)
import bayes_prehoc as bp
for name in bp.__all__:
    getattr(bp, name)
import bayes_prehoc.cli, bayes_prehoc.theory
bp.suite()
from jax._src import xla_bridge
changed = [k for k, v in jax.config.values.items() if before.get(k, v) != v]
print(json.dumps([xla_bridge.backends_are_initialized(), changed]))
"""
    assert _python(code) == [False, []]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the working tree by the declared build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    name = _python(
        f"import json; from hatchling.build import build_wheel; print(json.dumps(build_wheel({str(folder)!r})))",
        cwd=ROOT,
    )
    return folder / name


def test_the_wheel_carries_types_templates_and_models(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert "bayes_prehoc/py.typed" in inside
    assert not [name for name in inside if "__pycache__" in name or name.startswith("tests")]
    for folder, carried in ((PACKAGE, "bayes_prehoc"), (ROOT / "models", "bayes_prehoc/_models")):
        files = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
        files = {f for f in files if "__pycache__" not in f}
        assert not {f"{carried}/{f}" for f in files} - inside


def test_the_installed_wheel_lists_the_suite_and_finds_its_backbones(wheel, tmp_path):
    # The environment sees this one's libraries, and the package itself only from the wheel: a plain path in a .pth
    # file adds the folder without running the .pth files in it, so an editable installation here stays out.
    venv.create(tmp_path / "env", with_pip=False)
    interpreter = tmp_path / "env" / "bin" / "python"
    site = Path(
        _python("import json, sysconfig; print(json.dumps(sysconfig.get_path('purelib')))", interpreter=interpreter)
    )
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, cwd=tmp_path)

    found = _python(
        "import json, bayes_prehoc as bp; from bayes_prehoc.probes.backbones import find_backbone\n"
        "folders = {s.backbone: str(find_backbone(s.backbone)) for s in bp.suite()}\n"
        "print(json.dumps([bp.__file__, folders]))",
        interpreter=interpreter,
        cwd=tmp_path,
    )
    assert Path(found[0]).is_relative_to(site)
    assert found[1]
    for name, folder in found[1].items():
        assert Path(folder) == site / "bayes_prehoc" / "_models" / "backbones" / name

    command = interpreter.with_name("bayes-prehoc")
    listed = subprocess.run(
        [command, "probe", "--list", "--json"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert [task["task"] for task in json.loads(listed.stdout)["tasks"]] == [spec.name for spec in bp.suite()]
