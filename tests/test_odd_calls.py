"""A share of the survey of odd calls: each is right, or one clear error that names an argument of the caller's."""

from __future__ import annotations

import pytest
import torch

from benchmarks import odd_calls
from ctmem.networks.scan.selective import selective_scan

SHARE = 23  # every so manieth call; benchmarks/results/odd_calls.md lists what of the whole is neither


def test_a_share_of_all_odd_calls_is_right_or_clear():
    found = odd_calls.survey(share=SHARE, skip=("train_kernel", "Explorer", "super_resolve", "estimate"))
    bad = {key: one for key, one in found.items() if one[0] not in odd_calls.GOOD}
    assert len(found) > 200 and not bad


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_tokens_that_are_no_floats_do_not_enter_a_scan(kind):
    x, rates, weights = torch.ones(1, 4, 2), -torch.ones(2, 3), torch.ones(1, 4, 3)
    with pytest.raises(TypeError, match="`u` must be a floating-point tensor"):
        selective_scan(x.to(kind), x, rates, weights, weights)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_steps_and_rates_with_which_a_state_grows_are_refused(backend):
    x, rates, weights = torch.ones(1, 4, 2), -torch.ones(2, 3), torch.ones(1, 4, 3)
    assert selective_scan(x, 0 * x, rates, weights, weights, backend=backend).isfinite().all()
    with pytest.raises(ValueError, match="`delta` must be ≥ 0 everywhere, got -1.0"):
        selective_scan(x, -x, rates, weights, weights, backend=backend)
    with pytest.raises(ValueError, match="`A` must be ≤ 0 everywhere, got 1.0"):
        selective_scan(x, x, -rates, weights, weights, backend=backend)
