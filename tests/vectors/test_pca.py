"""PCA against scikit-learn's; rows of zeros stay out of it, and so does what training may not see."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lifelora.errors import ConfigError
from lifelora.vectors.pca import reduced


@pytest.mark.parametrize("shape", [(50, 12), (9, 12)])
def test_pca_is_scikit_learns(shape):
    states = torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 13) + 5
    ours = reduced(states, 4)
    theirs = PCA(4, svd_solver="full").fit_transform(states.double().numpy())
    signs = np.sign((ours.numpy() * theirs).sum(axis=0))
    np.testing.assert_allclose(ours.numpy() * signs, theirs, atol=1e-5)
    assert ours.dtype == torch.float32


def test_pca_has_one_sign_and_one_result():
    states = torch.randn(30, 6, generator=torch.Generator().manual_seed(4))
    assert torch.equal(reduced(states, 3), reduced(states.clone(), 3))
    # Turned upside down, the directions are the same ones, so every coordinate changes its sign.
    torch.testing.assert_close(reduced(-states, 3), -reduced(states, 3))


def test_at_full_width_only_the_centre_goes():
    states = torch.randn(20, 5, generator=torch.Generator().manual_seed(5))
    for dimensions in (5, 512):
        torch.testing.assert_close(reduced(states, dimensions), states - states.mean(dim=0))


def test_items_without_words_stay_at_zero_and_do_not_move_the_centre():
    states = torch.randn(10, 4, generator=torch.Generator().manual_seed(6))
    with_holes = torch.cat([states[:3], torch.zeros(2, 4), states[3:]])
    made = reduced(with_holes, 2)
    assert (made[3:5] == 0).all()
    torch.testing.assert_close(torch.cat([made[:3], made[5:]]), reduced(states, 2))
    alike = torch.tensor([0.1, 0.7, 0.3]).repeat(4, 1)
    assert (reduced(alike, 2) == 0).all()  # nothing tells them apart: no direction, rather than noise or NaN


def test_pca_learns_from_what_it_may_see():
    states = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    early = torch.arange(40) < 25
    made = reduced(states, 3, early)
    torch.testing.assert_close(made[:25], reduced(states[:25], 3))
    changed = torch.cat([states[:25], 100 * states[25:]])  # what comes later moves nothing of what was before
    torch.testing.assert_close(reduced(changed, 3, early)[:25], made[:25])
    with pytest.raises(ConfigError, match="none of the vectors that PCA may learn from has words"):
        reduced(states, 3, torch.zeros(40, dtype=torch.bool))


def test_without_dimensions_the_vectors_stay_as_they_are():
    states = torch.randn(6, 3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(reduced(states, None), states)
