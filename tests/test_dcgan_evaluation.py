"""What the evaluation notebook of DCGAN promises beyond its checks: agreement with scipy, and a score that orders what an eye would order."""

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import nn

from papers.datasets import drawn_glyphs
from papers.dcgan.evaluation import (
    collapse_alarm,
    diversity,
    feature_distance,
    feature_statistics,
    frechet_distance,
    interpolate,
    squeezenet_features,
)


def crowd(random: np.random.RandomState, count: int, width: int) -> torch.Tensor:
    """Features that vary together, with another mean each."""
    mixing = random.standard_normal((width, width))
    return torch.from_numpy(random.standard_normal((count, width)) @ mixing + random.standard_normal(width))


def by_scipy(mu1: torch.Tensor, sigma1: torch.Tensor, mu2: torch.Tensor, sigma2: torch.Tensor) -> float:
    root = np.real(scipy.linalg.sqrtm((sigma1 @ sigma2).numpy()))
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * root))


@pytest.mark.parametrize("width", [1, 2, 5, 16])
def test_the_frechet_distance_is_scipys_where_covariances_are_regular(width: int) -> None:
    random = np.random.RandomState(width)
    statistics = [*feature_statistics(crowd(random, 60, width)), *feature_statistics(crowd(random, 80, width))]
    assert frechet_distance(*statistics) == pytest.approx(by_scipy(*statistics), rel=1e-8)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("counts", "width"), [((3, 40), 6), ((3, 4), 6), ((2, 2), 5)])
def test_the_frechet_distance_is_scipys_where_covariances_are_singular(counts: tuple[int, int], width: int) -> None:
    random = np.random.RandomState(sum(counts))
    statistics = [
        *feature_statistics(crowd(random, counts[0], width)),
        *feature_statistics(crowd(random, counts[1], width)),
    ]
    assert frechet_distance(*statistics) == pytest.approx(by_scipy(*statistics), rel=1e-5)


def test_feature_statistics_are_numpys() -> None:
    features = crowd(np.random.RandomState(3), 30, 4)
    mu, sigma = feature_statistics(features.float())
    np.testing.assert_allclose(mu, features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sigma, np.cov(features.numpy(), rowvar=False), rtol=1e-5, atol=1e-6)


def test_the_score_on_a_trained_network_orders_real_blurred_and_noise() -> None:
    pixels, labels = drawn_glyphs(1200, size=16, classes=["star", "heart", "disc"], pose=0.3)
    images, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1, torch.from_numpy(labels)
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 16),
        nn.ReLU(),
    )
    head = nn.Linear(16, 3)
    optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(4):
        for chosen in torch.randperm(1200).split(50):
            optimizer.zero_grad()
            F.cross_entropy(head(trunk(images[chosen])), labels[chosen]).backward()
            optimizer.step()
    half, other = images.split(600)
    blurred = F.avg_pool2d(F.pad(half, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.rand(half.shape) * 2 - 1
    scores = [feature_distance(trunk, images, other) for images in (half, blurred, noise)]
    assert 2 * scores[0] < scores[1] and 2 * scores[1] < scores[2], scores
    assert feature_distance(trunk, other, other) == pytest.approx(0, abs=1e-6 * scores[2])


def test_squeezenet_takes_weights_in_torchvisions_names_and_gives_512_features(tmp_path) -> None:
    from torchvision.models import squeezenet1_0

    torch.manual_seed(0)
    network = squeezenet1_0(weights=None)
    np.savez(tmp_path / "weights.npz", **{name: value.numpy() for name, value in network.state_dict().items()})
    features = squeezenet_features(tmp_path / "weights.npz")
    grey = torch.rand(2, 1, 20, 20) * 2 - 1
    with torch.no_grad():
        assert features(grey).shape == (2, 512)
        torch.testing.assert_close(features(grey), features(grey.expand(-1, 3, -1, -1)))


def test_an_arc_keeps_the_length_of_noise_where_a_line_loses_it() -> None:
    noise = torch.randn(2, 100, 1, 1, generator=torch.Generator().manual_seed(0))
    noise = noise / noise.flatten(1).norm(dim=1)[:, None, None, None]
    lengths = {
        mode: interpolate(noise[0], noise[1], 9, mode=mode).flatten(1).norm(dim=1) for mode in ("linear", "spherical")
    }
    torch.testing.assert_close(lengths["spherical"], torch.ones(9))
    assert lengths["linear"][4] < 0.8


def test_the_diversity_of_a_collapsed_generator_rings_the_alarm() -> None:
    random = torch.Generator().manual_seed(0)
    real = diversity(torch.rand(16, 1, 8, 8, generator=random))
    image = torch.rand(1, 1, 8, 8, generator=random)
    measured = [
        diversity(torch.lerp(torch.rand(16, 1, 8, 8, generator=random), image, share))
        for share in (0, 0.2, 0.6, 0.8, 1.0, 1.0)
    ]
    assert collapse_alarm(measured, real) == 4
    assert collapse_alarm(measured[:3], real) is None
