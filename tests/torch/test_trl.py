"""The callback in trl's supervised fine-tuning of a tiny language model (`make test-torch`).

The runs that the table is made of are one real run with a random walk on top, which stands for what other seeds do.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")
import datasets  # noqa: E402
import tokenizers  # noqa: E402

from bayes_prehoc.integrations import WatchCallback  # noqa: E402

STEPS, EVERY, SEEDS = 48, 4, 48
WORTH = 1.2
torch.set_num_threads(1)


def _tokenizer():
    words = {"<pad>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 32)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")


def _texts(count, seed):
    """Words that follow each other in a circle, from a random one on."""
    starts = np.random.default_rng(seed).integers(30, size=count)
    return datasets.Dataset.from_dict({"text": [" ".join(f"w{2 + (s + i) % 30}" for i in range(8)) for s in starts]})


def _trained(folder, callbacks=(), **options):
    transformers.set_seed(0)
    sizes = {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 1}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    settings = {"max_steps": STEPS, "learning_rate": 0.02, "per_device_train_batch_size": 8, "logging_steps": 1}
    settings |= {"max_length": 16, "eval_strategy": "no", "save_strategy": "no", "report_to": "none", "use_cpu": True}
    settings |= {"bf16": False, "disable_tqdm": True, "dataloader_pin_memory": False}
    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(output_dir=str(folder), **settings | options),
        train_dataset=_texts(256, 0),
        eval_dataset=_texts(64, 1),
        processing_class=_tokenizer(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def _losses(trainer):
    return {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}


def test_a_run_that_learns_finishes_and_one_that_does_not_is_stopped(table_of, tmp_path):
    seen = _losses(_trained(tmp_path, eval_strategy="steps", eval_steps=EVERY))
    assert list(seen) == list(range(EVERY, STEPS + 1, EVERY)) and seen[STEPS] < 0.8 * seen[EVERY]
    random = np.random.default_rng(2)
    size = 0.1 * (seen[EVERY] - seen[STEPS])
    walks = size * np.cumsum(random.normal(size=(SEEDS, len(seen))) / np.sqrt(1.0 + np.arange(len(seen))), axis=1)
    runs = [dict(zip(seen, np.array(list(seen.values())) + walk, strict=True)) for walk in walks]
    threshold = seen[STEPS] + walks[:, -1].std()
    table = table_of(runs, "loss", threshold, WORTH, tmp_path)

    learns, idles = WatchCallback(table), WatchCallback(table)
    whole = _trained(tmp_path, [learns])
    assert whole.state.global_step == STEPS and learns.decisions[-1]["action"] == "decided"
    stopped = _trained(tmp_path, [idles], learning_rate=0.0)
    last = idles.decisions[-1]
    print(last["reason"])
    assert last["action"] == "stop" and stopped.state.global_step == last["depth"] <= 0.5 * STEPS
    # The loss that is trained on is logged at every step; looks are those that were asked for.
    asked = [one["next_depth"] for one in idles.decisions[:-1]]
    assert list(_losses(stopped)) == asked == [one["depth"] for one in idles.decisions[1:]]
    assert "jax" not in sys.modules
