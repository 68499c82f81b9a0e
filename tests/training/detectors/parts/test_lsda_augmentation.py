"""LSDA's latent augmentation, against loops over maps."""

import numpy as np
import pytest
import torch

from training.detectors.parts.lsda.augmentation import Chances, Limits, across_domains, turning, within_domain

SHAPE = (3, 5, 4, 4)  # domains, channels, height, width
EVERY = Limits(("centrifugal", "hard", "affine", "additive", "difference"))


def drawn(groups=40, limits=EVERY, first=0):
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(SHAPE[0], groups, *SHAPE[1:])).astype(np.float32))
    return maps, Chances.of(range(first, first + groups), SHAPE, limits)


def test_each_map_takes_one_step_within_its_domain():
    maps, chances = drawn()
    everyone = torch.cat([maps, 2 * maps[:, :7] + 1], dim=1)  # other processes' too
    found = within_domain(maps, everyone, chances, EVERY).numpy()
    kinds = set()
    for d in range(3):
        known = everyone[d].numpy()
        centre = known.mean(0)
        hard = max(known, key=lambda z: np.sqrt(((z - centre) ** 2).sum()))
        for g in range(40):
            z, beta = maps[d, g].numpy(), float(chances.amount[d, g])
            kind = EVERY.transforms[int(chances.kind[d, g])]
            j, k = (int(u * len(known)) for u in chances.pair[d, g].numpy())
            wanted = {
                "centrifugal": z + beta * (z - centre),
                "hard": z + beta * (hard - z),
                "affine": (z.reshape(5, 16) @ chances.turn[d, g].numpy().T).reshape(z.shape),
                "additive": z + beta * chances.noise[d, g].numpy(),
                "difference": z + beta * (known[j] - known[k]),
            }[kind]
            np.testing.assert_allclose(found[d, g], wanted, atol=1e-5, err_msg=kind)
            kinds.add(kind)
    assert kinds == set(EVERY.transforms)


def test_domains_are_mixed_within_their_group():
    maps, chances = drawn()
    found = across_domains(maps, chances).numpy()
    for g in range(40):
        partners, share = chances.partner[:, g].tolist(), chances.share[:, g].numpy()
        assert sorted(partners) == [0, 1, 2]
        assert len(set(share.tolist())) == 1
        assert 0 <= share[0] <= 1
        for d in range(3):
            wanted = share[d] * maps[d, g].numpy() + (1 - share[d]) * maps[partners[d], g].numpy()
            np.testing.assert_allclose(found[d, g], wanted, atol=1e-6)
    assert any(chances.partner[:, g].tolist() != [0, 1, 2] for g in range(40))


@pytest.mark.parametrize("side", [4, 5])
def test_a_map_turns_about_its_middle(side):
    picture = np.random.default_rng(0).normal(size=(side, side))

    def turned(degrees, scale=1.0):
        return (turning(side, side, degrees, scale) @ picture.ravel()).reshape(side, side)

    np.testing.assert_allclose(turned(0), picture, atol=1e-12)
    np.testing.assert_allclose(turned(90), np.rot90(picture), atol=1e-9)
    np.testing.assert_allclose(turned(180), picture[::-1, ::-1], atol=1e-9)
    # At twice the size the middle of the upper left quarter comes to the corner.
    corner = (side - 1) / 4
    low, part = int(corner), corner % 1
    rows = (1 - part) * picture[low] + part * picture[low + 1]
    assert turned(0, 2.0)[0, 0] == pytest.approx((1 - part) * rows[low] + part * rows[low + 1])
    assert np.abs(turned(0, 0.25)[0]).max() == 0


def test_chances_are_a_groups_own_and_within_the_limits():
    _, chances = drawn(groups=200)
    _, later = drawn(groups=50, first=150)
    for name in ("kind", "amount", "turn", "noise", "pair", "partner", "share"):
        assert torch.equal(getattr(chances, name)[:, 150:], getattr(later, name)), name
    assert set(chances.kind.unique().tolist()) == set(range(5))
    # Noise is wider-tailed than one Gaussian: a mixture of many.
    noise = chances.noise.numpy()
    assert abs(noise.mean()) < 0.02
    assert (noise**4).mean() / (noise**2).mean() ** 2 > 4
    # Beta(α, α) with α from 0.5 to 2 is about as wide as the uniform one.
    share = chances.share[0].numpy()
    assert abs(share.mean() - 0.5) < 0.08
    assert 0.05 < share.var() < 0.125
