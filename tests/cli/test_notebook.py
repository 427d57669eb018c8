"""`convbench notebook`."""

from __future__ import annotations

import json

from ..schemas import conforming
from .command import run


def test_notebook() -> None:
    done = run("notebook", "--seed", "3", "--target", "numpy@cpu")
    assert done.returncode == 0
    for words in (
        "input, shape (1, 5, 5, 3)",
        "filters, shape (5, 5, 3, 6)",
        "convolution + bias, shape (1, 1, 1, 6)",
        "max pool, shape (1, 2, 2, 3)",
        "average pool, shape (1, 2, 2, 3)",
        "which turns 5x5 into 1x1",
    ):
        assert words in done.stdout
    data = conforming(run("notebook", "--seed", "3", "--target", "numpy@cpu", "--json").stdout)
    assert data["schema"] == "convbench.notebook/1"
    pool = data["pipelines"]["max pool"]
    x = pool["input"][0]
    assert pool["output"][0][1][1][2] == max(x[i][j][2] for i in (2, 3) for j in (2, 3))
    assert data == json.loads(
        run("notebook", "--seed", "3", "--target", "numpy@cpu", "--json").stdout
    )
