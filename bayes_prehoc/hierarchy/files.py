"""Posteriors in files: one netCDF (HDF5) file with the ArviZ groups, and a JSON document of everything else.

The document lies as bytes in the group `bayes_prehoc`; the file's root says its format and schema version. Nothing is
executed on reading. Files are written beside their place and moved there when they are complete.
"""

import dataclasses
import importlib.metadata
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from bayes_prehoc._files import share_as_usual
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.checks import Check
from bayes_prehoc.hierarchy.mixing import CardWeight
from bayes_prehoc.hierarchy.model import Hyperprior
from bayes_prehoc.hierarchy.posterior import Posterior
from bayes_prehoc.risk.estimates import LeftOut, RiskEstimates, TaskEstimates
from bayes_prehoc.runs.trajectories import SetAside

__all__ = ["EARLIEST_VERSION", "SCHEMA_VERSION", "load_posterior", "save_posterior"]

SCHEMA_VERSION = 6
EARLIEST_VERSION = 5
"""Draws of earlier versions are of another likelihood; version 5 says nothing of cards and of continuations."""
FORMAT = "bayes_prehoc posterior"
GROUPS = ("posterior", "sample_stats", "observed_data")
GROUPS_OF_FITS = ("log_likelihood", "log_prior")
"""An update has none."""
ARRAYS = ("depths", "risk", "nu")
ARRAYS_OR_NONE = ("bias", "correlation")
_MAKE = "Give a file that Posterior.save, or `bayes-prehoc fit`, wrote."


def save_posterior(posterior: Posterior, path) -> None:
    """Write a posterior; `Posterior.save` calls this."""
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder", str(path), "Name a file in it, such as post.nc.")
    if not path.parent.is_dir():
        raise InputError("its folder does not exist", str(path), f"Create {path.parent} first.")
    document = {
        "estimates": _estimates_to_dict(posterior.estimates),
        "gate": [check._asdict() for check in posterior.gate],
        "hyperprior": posterior.hyperprior._asdict(),
        "prior": posterior.prior,
        "seed": posterior.seed,
        "engine": posterior.engine,
        "card": None if posterior.card is None else posterior.card.to_dict(),
    }
    content = {"document": ("byte", np.frombuffer(json.dumps(document).encode(), np.uint8))}
    if posterior.card is not None:
        content["fingerprints"] = ("run", "part"), posterior.card.fingerprints
    tree = posterior.draws.copy()
    tree["bayes_prehoc"] = xr.DataTree(xr.Dataset(content))
    tree.attrs |= {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "package_version": importlib.metadata.version("bayes-prehoc"),
    }
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".nc")
        os.close(handle)
        try:
            tree.to_netcdf(temporary, engine="h5netcdf")
            share_as_usual(temporary)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(path), "Check the folder and the disk.") from None


def load_posterior(path) -> Posterior:
    """Read a posterior that was saved.

    Parameters
    ----------
    path : path
        Of a file that `Posterior.save` or `Plan.save` wrote.

    Raises
    ------
    InputError
        If the file is missing, is no such file, is damaged, or was written by a newer version.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder", str(path), _MAKE)
    if not path.exists():
        raise InputError("no such file", str(path), f"Check the path; it was looked up from {Path.cwd()}.")
    try:
        # Read fully and closed again, so that the file may be written to while the posterior lives.
        with xr.open_datatree(path, engine="h5netcdf") as lazy:
            tree = lazy.load()
    except Exception:  # h5py and xarray raise many kinds for a file that is not theirs
        raise InputError("is not a posterior (not a netCDF file)", str(path), _MAKE) from None
    if tree.attrs.get("format") != FORMAT:
        raise InputError("is a netCDF file but not a posterior", str(path), _MAKE)
    version = int(tree.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise InputError(
            f"has schema version {version}, this package reads up to {SCHEMA_VERSION}",
            str(path),
            "Update bayes-prehoc to read it.",
        )
    if version < EARLIEST_VERSION:
        raise InputError(
            f"holds draws of an earlier model (schema version {version})", str(path), "Fit the same runs again."
        )
    groups = (*GROUPS, *(group for group in GROUPS_OF_FITS if group in tree.children))
    try:
        document = json.loads(tree["bayes_prehoc/document"].values.astype(np.uint8).tobytes())
        hyperprior = Hyperprior(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in document["hyperprior"].items()}
        )
        return Posterior(
            draws=xr.DataTree.from_dict({group: tree[group].to_dataset() for group in groups}),
            estimates=_estimates_from_dict(document["estimates"]),
            gate=tuple(Check(**check) for check in document["gate"]),
            hyperprior=hyperprior,
            prior=document["prior"],
            seed=document["seed"],
            engine=document["engine"],
            card=_card_from_dict(document.get("card"), tree["bayes_prehoc"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the posterior in it is damaged ({error})", str(path), "Fit again.") from None


def _card_from_dict(content, group) -> CardWeight | None:
    if content is None:
        return None
    return CardWeight.from_dict(content, group["fingerprints"].values.astype(np.uint8))


def _estimates_to_dict(estimates: RiskEstimates) -> dict:
    tasks = []
    for task in estimates:
        fields = {f.name: getattr(task, f.name) for f in dataclasses.fields(task)}
        there = [*ARRAYS, *(name for name in ARRAYS_OR_NONE if fields[name] is not None)]
        fields |= {name: fields[name].tolist() for name in there}
        fields["left_out"] = [dataclasses.astuple(left) for left in task.left_out]
        tasks.append(fields)
    set_aside = [dataclasses.astuple(task) for task in estimates.set_aside]
    return {"proxy": estimates.proxy, "tasks": tasks, "set_aside": set_aside}


def _estimates_from_dict(content: dict) -> RiskEstimates:
    tasks = []
    for fields in content["tasks"]:
        there = [*ARRAYS, *(name for name in ARRAYS_OR_NONE if fields.get(name) is not None)]
        arrays = {name: np.asarray(fields[name], np.float64) for name in there}
        tuples = {name: tuple(fields[name]) for name in ("flags", "hashes")}
        left_out = tuple(LeftOut(*left) for left in fields["left_out"])
        tasks.append(TaskEstimates(**(fields | arrays | tuples | {"left_out": left_out})))
    set_aside = tuple(SetAside(*task) for task in content["set_aside"])
    return RiskEstimates(content["proxy"], tuple(tasks), set_aside)
