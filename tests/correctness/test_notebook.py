"""What the notebook drew: the numbers of its own input, filters and bias."""

from __future__ import annotations

import numpy as np
import pytest

from convbench.correctness.notebook import PIPELINES, make_notebook_inputs


def test_what_the_notebook_drew() -> None:
    conv = make_notebook_inputs(PIPELINES["convolution + bias"], 7)
    assert conv.x.min() >= -10
    assert conv.x.max() <= 9
    assert np.array_equal(conv.x, np.rint(conv.x))
    filters = conv.weights.filters
    assert filters.shape == (5, 5, 3, 6)
    assert np.abs(filters).max() <= np.float32(0.2)
    # A normal distribution truncated at two deviations has 0.8796 of the deviation.
    assert filters.std() == pytest.approx(0.088, rel=0.1)
    assert (conv.weights.bias == np.float32(0.1)).all()
    pool = make_notebook_inputs(PIPELINES["max pool"], 7)
    assert np.array_equal(pool.x, conv.x)
    assert pool.weights.filters is None
