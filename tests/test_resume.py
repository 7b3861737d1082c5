"""A training run that is killed resumes to the same bits, and a kill while saving never costs the last checkpoint."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from papers.transformer.optimisation import load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent

TRAINING = '''
"""Trains a small Transformer on the copy task, with dropout and noise from all three generators; saves every other step."""
import random, sys, time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from papers.datasets import copy_batches
from papers.transformer.model import Transformer
from papers.transformer.optimisation import clip_gradients, load_checkpoint, save_checkpoint, warmup_cosine
from papers.transformer.training import teacher_forcing

folder, seed, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
torch.set_num_threads(1)


class Data:
    position = 0

    def next(self):
        self.position += 1
        return next(copy_batches(1, batch_size=8, longest=5, seed=self.position))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
model = Transformer(12, 12, d_model=16, h=2, N=1, d_ff=32, dropout=0.2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step + 1, 5, steps, floor=0.1))
parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": torch.amp.GradScaler("cpu"), "data": Data()}
last = folder / "last.pt"
step = load_checkpoint(last, **parts) if last.exists() else 0
print("begins at", step, flush=True)
while step < steps:
    src, target = parts["data"].next()
    reading, labels = teacher_forcing(target)
    loss = F.cross_entropy(model(src, reading).flatten(0, 1), labels.flatten(), ignore_index=0)
    loss = loss * (1 + 0.1 * np.random.random_sample() + 0.1 * random.random())
    optimizer.zero_grad()
    loss.backward()
    clip_gradients(model.parameters(), 1.0)
    optimizer.step(), scheduler.step()
    step += 1
    if step == 7:
        print("waits at 7", flush=True)
        time.sleep(pause)
    if step % 2 == 0:
        save_checkpoint(last, step, **parts)
torch.save({"weights": model.state_dict(), "loss": loss.item(), "rate": scheduler.get_last_lr()}, folder / "end.pt")
'''

SAVING = '''
"""Saves a checkpoint of some megabytes again and again, as fast as it can."""
import sys

import torch

from papers.transformer.optimisation import save_checkpoint

network = torch.nn.Linear(700, 700)
step = 0
while True:
    step += 1
    with torch.no_grad():
        network.weight.fill_(step)
        network.bias.fill_(step)
    save_checkpoint(sys.argv[1], step, network=network)
    print(step, flush=True)
'''


def start(script: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, text=True, cwd=script.parent,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what the process prints up to a line that begins with `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(f"the process ended ({process.wait()}) before it printed {text!r}")


def test_a_run_killed_in_the_middle_ends_with_the_same_bits_as_one_that_was_not(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    undisturbed = start(script, whole, 1, 14, 0)
    victim = start(script, killed, 1, 14, 60)
    read_until(victim, "waits at 7")
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (killed / "end.pt").exists()
    second = start(script, killed, 999, 14, 0)  # another seed: everything has to come from the file
    out, _ = second.communicate()
    assert second.returncode == 0 and undisturbed.wait() == 0
    assert out.splitlines()[0] == "begins at 6"
    one, other = (torch.load(folder / "end.pt", weights_only=True) for folder in (whole, killed))
    assert one["loss"] == other["loss"] and one["rate"] == other["rate"]
    different = [name for name, value in one["weights"].items() if not torch.equal(value, other["weights"][name])]
    assert different == []


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    script, file = tmp_path / "saving.py", tmp_path / "last.pt"
    script.write_text(SAVING)
    chance = random.Random(0)
    process = start(script, file)
    read_until(process, "3")
    time.sleep(0.05 * chance.random())
    process.kill()
    process.wait()
    network = torch.nn.Linear(700, 700)
    step = load_checkpoint(file, network=network)
    assert step >= 3
    assert (network.weight == step).all() and (network.bias == step).all()


def test_the_last_checkpoint_survives_a_save_that_fails_at_any_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, network = tmp_path / "last.pt", torch.nn.Linear(3, 2)
    save_checkpoint(file, 1, network=network)
    before = file.read_bytes()
    real = torch.save

    def half(thing: object, target: object, *args: object, **kwargs: object) -> None:
        real(thing, target, *args, **kwargs)
        if hasattr(target, "truncate"):
            target.truncate(200)
        else:
            os.truncate(target, 200)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(file, 2, network=network)
    assert file.read_bytes() == before


def test_loading_puts_all_three_generators_back(tmp_path: Path) -> None:
    def draw() -> tuple[list[float], float, float, float]:
        return torch.rand(3).tolist(), float(np.random.standard_normal()), random.random(), random.gauss(0, 1)

    network = torch.nn.Linear(2, 2)
    np.random.standard_normal(), random.gauss(0, 1)  # each keeps a second normal number for later
    save_checkpoint(tmp_path / "last.pt", 7, network=network)
    expected = draw()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert draw() != expected
    assert load_checkpoint(tmp_path / "last.pt", network=network) == 7
    assert draw() == expected


def test_a_checkpoint_needs_no_trust(tmp_path: Path) -> None:
    """Tensors, numbers and containers: weights_only=True reads it, and no code runs."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    save_checkpoint(tmp_path / "last.pt", 3, model=model, optimizer=optimizer, scheduler=scheduler)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 3
