"""What week 4 of the DCGAN track promises beyond its checks: resume to the bit, and logs that TensorBoard opens."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from papers.datasets import ArrayImages
from papers.dcgan.data import build_dataloader, build_transform
from papers.dcgan.models import Discriminator, Generator, build_criterion, build_optimizers, init_weights
from papers.dcgan.training import Checkpoint, train


class Run:
    """A tiny training run; its checkpoint is in `folder`."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.generator = Generator(nz=5, ngf=2, nc=1).apply(init_weights)
        self.discriminator = Discriminator(nc=1, ndf=2).apply(init_weights)
        self.opt_g, self.opt_d = build_optimizers(self.generator, self.discriminator, lr=1e-3)
        images = np.random.RandomState(3).randint(0, 256, (14, 64, 64)).astype(np.uint8)
        dataset = ArrayImages(images, np.zeros(14, np.int64), build_transform(64, channels=1))
        self.loader = build_dataloader(dataset, batch_size=4, seed=seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.checkpoint = Checkpoint(
            folder / "run.pt",
            generator=self.generator,
            discriminator=self.discriminator,
            opt_g=self.opt_g,
            opt_d=self.opt_d,
            order=self.loader.generator,
            noise=self.noise,
        )

    def train(self, epochs: int, writer=None) -> dict[str, list[float]]:
        return train(
            self.generator,
            self.discriminator,
            self.loader,
            epochs,
            self.opt_g,
            self.opt_d,
            build_criterion(),
            lambda n: torch.randn(n, 5, 1, 1, generator=self.noise),
            fixed_noise=torch.ones(4, 5, 1, 1),
            writer=writer,
            checkpoint=self.checkpoint,
        )

    def state(self) -> dict[str, torch.Tensor]:
        return {**self.generator.state_dict(), **{f"D {k}": v for k, v in self.discriminator.state_dict().items()}}


def test_a_run_that_was_stopped_goes_on_to_bit_identical_weights(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    whole = Run(tmp_path / "whole")
    losses = whole.train(4)
    first = Run(tmp_path / "halves")
    halves = first.train(2)
    second = Run(tmp_path / "halves", seed=99)  # everything else: all of it has to come out of the file
    more = second.train(4)
    assert len(more["generator"]) == 2 * len(second.loader)
    assert {name: halves[name] + more[name] for name in losses} == losses
    assert whole.state().keys() == second.state().keys()
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_looking_at_pictures_does_not_change_training(tmp_path):
    class Nowhere:
        def add_scalar(self, *what):
            pass

        add_images = add_scalar

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    seen, unseen = Run(tmp_path / "a"), Run(tmp_path / "b")
    assert seen.train(2, writer=Nowhere()) == unseen.train(2)
    for name, value in seen.state().items():
        assert torch.equal(value, unseen.state()[name]), name


@pytest.fixture
def log(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    run = Run(tmp_path)
    with SummaryWriter(tmp_path / "log") as writer:
        losses = run.train(1, writer)
    with SummaryWriter(tmp_path / "log") as writer:  # a second session writes a second file
        more = run.train(2, writer)
    return tmp_path / "log", {name: losses[name] + more[name] for name in losses}


def test_the_log_holds_both_losses_step_by_step_and_pictures_epoch_by_epoch(log):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, losses = log
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    for name, values in losses.items():
        scalars = events.Scalars(f"loss/{name}")
        assert [event.step for event in scalars] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in scalars] == pytest.approx(values, rel=1e-6)
    assert [event.step for event in events.Images("samples")] == [3, 6]


def test_tensorboard_serves_the_log(log):
    folder, _ = log
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--load_fast", "false"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "http://" in line)
        address = next(word for word in line.split() if word.startswith("http://"))
        open_address = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        assert b"TensorBoard" in open_address(address, timeout=20).read()
        tags, deadline = b"", time.monotonic() + 30
        while b"loss/generator" not in tags and time.monotonic() < deadline:  # it reads the files in the background
            tags = open_address(address.rstrip("/") + "/data/plugin/scalars/tags", timeout=20).read()
            time.sleep(0.5)
        assert b"loss/generator" in tags and b"loss/discriminator" in tags
    finally:
        server.terminate()
        server.wait(timeout=20)
