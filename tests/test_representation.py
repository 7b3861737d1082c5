"""What the notebook on representations promises and its checks do not prove: the paper's 28,672 features, and LinearSVC's minimum."""

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import nn

from papers.dcgan.models import Discriminator
from papers.dcgan.representation import class_balanced_subset, extract_features, squared_hinge_loss, standardise


class PapersDiscriminator(nn.Module):
    """Six convolutions on 32 × 32 images, with the widths of the network that the authors released."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for number, channels in enumerate((128, 128, 256, 256, 512, 512)):
            layers += [nn.Conv2d(before, channels, 3, stride=1 + number % 2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True)]
            before = channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).flatten()


def test_the_papers_network_gives_28672_features() -> None:
    assert extract_features(PapersDiscriminator(), torch.zeros(1, 3, 32, 32)).shape == (1, 28_672)


def test_week_3s_network_gives_15360_features() -> None:
    assert extract_features(Discriminator(), torch.zeros(1, 3, 64, 64)).shape == (1, 15_360)


def test_a_discriminator_goes_on_training_as_if_nobody_had_looked() -> None:
    def trained(look: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        discriminator = Discriminator(1, 2)
        optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
        for _ in range(3):
            images = torch.rand(4, 1, 64, 64) * 2 - 1
            if look:
                extract_features(discriminator, images)
            optimizer.zero_grad()
            discriminator(images).square().mean().backward()
            optimizer.step()
        return discriminator.state_dict()

    alone, watched = trained(False), trained(True)
    assert all(torch.equal(alone[name], watched[name]) for name in alone)


def test_linear_svc_stands_where_the_squared_hinge_and_its_penalty_are_smallest() -> None:
    random = np.random.RandomState(1)
    labels = torch.arange(4).repeat(25)[class_balanced_subset(torch.arange(4).repeat(25), 20)]
    features = torch.from_numpy(random.standard_normal((80, 6)))
    features[torch.arange(80), labels] += 1.5
    features, _ = standardise(features, features)
    svm = LinearSVC(C=0.3, tol=1e-9, max_iter=200_000, dual=True, random_state=0).fit(features, labels)
    weight = torch.tensor(np.concatenate([svm.coef_.T, svm.intercept_[None]])).requires_grad_()
    x = torch.cat([features, torch.ones(80, 1, dtype=features.dtype)], 1)
    objective = squared_hinge_loss(x @ weight, labels) + weight.square().sum() / (2 * 0.3 * 80)
    (slope,) = torch.autograd.grad(objective, weight)
    assert slope.abs().max() < 1e-6
