"""Makes the golden card of the current schema version; one that is committed stays as it is.

PYTHONPATH=. python tests/priors/references/make_golden.py
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import card_around, hashes, sites, weak

from bayes_prehoc.priors import make_card
from bayes_prehoc.priors.files import SCHEMA_VERSION

KINDS = ("accuracy", "loss")

if __name__ == "__main__":
    # Two modes, so that there are two components.
    parts = [card_around(at, 0.3, KINDS, seed) for seed, at in enumerate((0.3, 1.5))]
    values = [part.values(part.draws) for part in parts]
    joined = {name: np.concatenate([own[name] for own in values])[::4] for name in values[0]}
    about = dataclasses.replace(parts[0].provenance, name="golden", made_by="bayes-prehoc 0.1.0", created="2026-11-27")
    card = make_card(
        joined, sites(KINDS), weak(KINDS), parts[0].scope, about, hashes=hashes(12), population=parts[0].population
    )
    card.save(Path(__file__).parent / f"version-{SCHEMA_VERSION}")
    sys.stdout.write(f"{card}\n{card.summary()}\n")
