"""Workloads from elsewhere: the convolutions and pools of models and of other benchmarks.

Each reader is a file beside this one, and finds :class:`~.layers.Layer`. What a pipeline cannot
express is a layer, too, with the reason. A file is data, and nothing in it is run; a factory is
code of whoever names it, and is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from convbench.errors import WorkloadError
from convbench.stimulus.elsewhere import benchdnn, onnx, traced
from convbench.stimulus.elsewhere.layers import Layer

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*")


def read(origin: str, shapes: Sequence[Sequence[int]] = ()) -> tuple[Layer, ...]:
    """Read the layers of one model, of a file of problems, or of a problem.

    Parameters
    ----------
    origin : str
        ``FILE.onnx``, ``package.module:factory`` of a PyTorch or Keras model, a problem or some
        knobs and problems of benchdnn, or a file of such lines.
    shapes : sequence of shapes
        Those of the model's inputs, in their order and in the layout of its library. A factory
        needs them; in ONNX they take the place of those that the file declares.

    Raises
    ------
    WorkloadError
        If there is no such thing or it cannot be read; the message says why.
    """
    if benchdnn.is_problem(origin):
        return tuple(benchdnn.read(origin, "benchdnn"))
    path = Path(origin)
    if path.suffix == ".onnx":
        return tuple(onnx.read(path, shapes))
    if _FACTORY.fullmatch(origin):
        return tuple(traced.read(origin, shapes))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkloadError(
            f"{origin}: the file is not readable ({error.strerror}); expected FILE.onnx, "
            "package.module:factory, a problem of benchdnn or a file of them. Check the name."
        ) from error
    except ValueError as error:
        raise WorkloadError(
            f"{origin}: the content is no text ({error}); expected problems of benchdnn, one a "
            "line. Name an ONNX model *.onnx."
        ) from error
    return tuple(benchdnn.read(text, path.name))
