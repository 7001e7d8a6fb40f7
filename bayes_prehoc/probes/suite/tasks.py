"""The built-in tasks. Each fine-tunes a pretrained state; they differ in data, rate and length, and nothing else."""

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["suite", "suite_task"]

_DIGITS = {"data": "digits-high", "backbone": "digits-low"}
_CANCER = {"data": "cancer", "backbone": "cancer-features", "train_size": 160, "outcome_size": 280}
_WINE = {"data": "wine", "backbone": "wine-features", "train_size": 48, "outcome_size": 90}

_TASKS = (
    ProbeSpec(
        name="digits-fast",
        **_DIGITS,
        train_size=400,
        probe_size=96,
        outcome_size=400,
        steps=400,
        batch_size=32,
        learning_rate=3e-3,
        description="Handwritten digits 5 to 9 from a network pretrained on 0 to 4, at a high learning rate.",
    ),
    ProbeSpec(
        name="digits-slow",
        **_DIGITS,
        train_size=96,
        probe_size=400,
        outcome_size=400,
        steps=150,
        batch_size=32,
        learning_rate=3e-4,
        description="The same digits at a tenth of that learning rate, stopped while accuracy still climbs.",
    ),
    ProbeSpec(
        name="digits-noisy",
        **_DIGITS,
        train_size=400,
        probe_size=96,
        outcome_size=400,
        steps=1500,
        batch_size=4,
        learning_rate=1e-2,
        label_noise=0.4,
        probe_label_noise=0.4,
        description="The digits of digits-fast, 40% of the training and probe labels wrong, long and in small batches.",
    ),
    ProbeSpec(
        name="cancer",
        **_CANCER,
        steps=1000,
        batch_size=4,
        probe_size=129,
        learning_rate=3e-3,
        description="Malignant or benign from cell measurements, from a network pretrained to fill in hidden features.",
    ),
    ProbeSpec(
        name="cancer-noisy",
        **_CANCER,
        steps=1000,
        batch_size=4,
        probe_size=40,
        learning_rate=3e-3,
        label_noise=0.4,
        probe_label_noise=0.4,
        description="The twin of cancer with 40% of the training labels wrong and 40 probe examples, as noisy.",
    ),
    ProbeSpec(
        name="wine",
        **_WINE,
        steps=300,
        batch_size=8,
        probe_size=40,
        learning_rate=1e-3,
        description="Cultivar from a wine's chemistry, from a network pretrained to fill in hidden features.",
    ),
    ProbeSpec(
        name="wine-noisy",
        **_WINE,
        steps=300,
        batch_size=8,
        probe_size=20,
        learning_rate=1e-3,
        label_noise=0.4,
        probe_label_noise=0.4,
        description="The twin of wine with 40% of the training labels wrong and 20 probe examples, as noisy.",
    ),
    ProbeSpec(
        name="addition",
        data="addition-3",
        backbone="addition-2",
        metric="exact_match",
        head="kept",
        train_size=6000,
        probe_size=1000,
        outcome_size=3000,
        steps=400,
        batch_size=64,
        learning_rate=4e-3,
        schedule="cosine",
        n_depths=14,
        description="Sums of three-digit numbers from a decoder that adds two-digit numbers; all digits must be right.",
    ),
    ProbeSpec(
        name="grokking",
        data="modular-addition",
        backbone="modular-memorised",
        metric="exact_match",
        head="kept",
        train_size=3600,
        probe_size=2800,
        outcome_size=3000,
        steps=260,
        batch_size=160,
        learning_rate=1e-2,
        weight_decay=1.0,
        schedule="linear",
        n_depths=16,
        description="Addition modulo 97 from a decoder that memorised the training pairs, while it finds the rule.",
    ),
)


def suite() -> list[ProbeSpec]:
    """The built-in tasks; loads no data and touches no device."""
    return list(_TASKS)


def suite_task(name: str) -> ProbeSpec:
    """A built-in task by name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    for spec in _TASKS:
        if spec.name == name:
            return spec
    raise InputError(f"no task {name!r} in the suite", "probe", f"Use one of {', '.join(s.name for s in _TASKS)}.")
