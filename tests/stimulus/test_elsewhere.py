"""Workloads from elsewhere: hand-made models and problems, with shapes computed by hand."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.errors import WorkloadError
from convbench.stimulus.elsewhere import read
from convbench.stimulus.elsewhere.layers import Layer, fold, to_toml
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.workloads import load


def specs(*layers: Layer) -> list[PipelineSpec | None]:
    return [found.pipeline for found in layers]


def reasons(*layers: Layer) -> list[str]:
    return [found.reason for found in layers if found.pipeline is None]


# -- benchdnn -------------------------------------------------------------------------------------

PROBLEMS = {
    # Those of its documentation. (227 - 11) / 4 + 1 = 55, and the batch is 2 unless it is given.
    "ic3ih227iw227_oc96oh55ow55_kh11kw11_sh4sw4ph0pw0_nalexnet:conv1": PipelineSpec(
        2, 227, 227, 3, ConvSpec(96, 11, 11, 4), bias=True
    ),
    "mb96ic768_ih17oh17_kh3sh1ph1ngooglenet_v3:ave_pool_mixed_4_pool": PipelineSpec(
        96, 17, 17, 768, pool=PoolSpec("max", 3, 1, padding=1)
    ),
    # (7 - 1) * 2 + 3 - 16 = -1: no padding, and the last row is not read.
    "ic16ih16oc16oh7kh3sh2": PipelineSpec(2, 16, 16, 16, ConvSpec(16, 3, 3, 2), bias=True),
    # (8 - 1) * 2 + 3 - 16 = 1, of which half, rounded down, is before: as SAME has it.
    "ic16ih16oc16oh8kh3sh2": PipelineSpec(
        2, 16, 16, 16, ConvSpec(16, 3, 3, 2, padding=(0, 1, 0, 1)), bias=True
    ),
    # The width is as the height only where none of it is given; a dilation of 0 is none.
    "g2mb1ic4ih9iw8oc6kh3kw2sh2dh1ph2": PipelineSpec(
        1, 9, 8, 4, ConvSpec(6, 3, 2, (2, 1), (2, 1), 2, (2, 2, 0, 0)), bias=True
    ),
    "--dir=FWD_D --mb=5 ic3ih5oc2kh3": PipelineSpec(5, 5, 5, 3, ConvSpec(2, 3, 3)),
    "--pool --alg=avg_p ic3ih5kh2sh2ph1": PipelineSpec(
        2, 5, 5, 3, pool=PoolSpec("avg", 2, padding=1, count_include_pad=True)
    ),
}


@pytest.mark.parametrize(("text", "expected"), PROBLEMS.items(), ids=PROBLEMS)
def test_a_problem(text: str, expected: PipelineSpec) -> None:
    assert specs(*read(text)) == [expected]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ic16id4ih7oc16kd3kh3", "the number of spatial axes is 3"),
        ("ic16iw7oc16kw3", "the number of spatial axes is 1"),
        ("--deconv ic16ih7oc16kh3", "a transposed convolution"),
        ("--dir=BWD_D ic16ih7oc16kh3", "the direction is BWD_D"),
        ("--pool --alg=min ic16ih7kh3", "the algorithm is min"),
        ("ic16ih7oc16kh9", "the filter is 9; expected at most the 7 there are"),
        ("ic16ih7oc16", "ih, kh, sh are 7, 0, 1"),
        ("g3ic16ih7oc16kh1", "groups is 3"),
        ("ic1ih999999999kh999999999", "too large"),
        # oh is 5 + 2 * 0 - 3 + 1 = 3 and not 2: one row of the output would be missing.
        ("ic1ih5oc1oh2kh3ph0", "the output is 2x3x3x1; expected ?x2x2x?"),
    ],
)
def test_a_problem_that_is_no_row(text: str, reason: str) -> None:
    (found,) = reasons(*read(text))
    assert reason in found


@given(
    st.tuples(*(st.integers(1, 9) for _ in range(4))),
    st.tuples(*(st.integers(1, 3) for _ in range(8))),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_every_field_has_its_place(sizes, numbers, pads) -> None:
    n, h, w, c = sizes
    k, r, s, sh, sw, dh, dw, g = numbers
    text = f"g{g}mb{n}_ic{c * g}ih{h + 6}iw{w + 6}_oc{k * g}_kh{r}kw{s}_sh{sh}sw{sw}"
    text += f"_ph{pads[0]}pw{pads[1]}_dh{dh - 1}dw{dw - 1}_nnet:layer"
    conv = ConvSpec(k * g, r, s, (sh, sw), (dh, dw), g, pads if any(pads) else "VALID")
    expected = PipelineSpec(n, h + 6, w + 6, c * g, conv, bias=True)
    assert specs(*read(text)) == [expected]


LINES = """\
# two layers, one of them six times
--reset --cfg=f32 --dir=FWD_D,BWD_D
mb1ic3ih8oc4kh3n"net:first"
mb1ic4ih8oc4kh3ph1n"net:second*6"
mb1ic3ih8oc4kh3n"net:again"
--batch=more
"""


def test_a_file_of_problems(tmp_path: Path) -> None:
    file = tmp_path / "shapes"
    file.write_text(LINES)
    found = read(str(file))
    assert reasons(*found) == [
        *[found[1].reason] * 3,
        "it names another file: import more as well",
    ]
    assert "the direction is BWD_D" in found[1].reason
    rows = fold(found, "full")
    assert [(row.name, row.source) for row in rows] == [
        ("net.first_dir_fwd_d", "shapes, first --dir=FWD_D x2"),
        ("net.second_dir_fwd_d", "shapes, second --dir=FWD_D x6"),
    ]
    assert rows[1].pipeline == PipelineSpec(1, 8, 8, 4, ConvSpec(4, 3, 3, padding=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "the content is no text"),
        (b"hello", "line 1: the word is 'hello'"),
        (b"--mb=2,many mb1ic3ih8oc4kh3", "the batch is '2,many'"),
        (b"--mb=" + b"9" * 5000 + b" mb1ic3ih8oc4kh3", "line 1: the batch is"),
        (b"\nmb1ic3ih8oc4kh3 'open", "line 2: the quotation is broken"),
        (None, "not readable"),
    ],
)
def test_what_is_no_file_of_problems(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "shapes"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WorkloadError, match=message):
        read(str(file))


# -- Rows -----------------------------------------------------------------------------------------

TEXT = st.text(max_size=20)
PIPELINES = st.builds(
    PipelineSpec,
    n=st.integers(0, 3), h=st.integers(9, 12), w=st.integers(9, 12), c=st.just(4),
    conv=st.none() | st.builds(
        ConvSpec, k=st.sampled_from([4, 8]), r=st.integers(1, 3), s=st.integers(1, 3),
        stride=st.integers(1, 2), groups=st.sampled_from([1, 4]),
        padding=st.sampled_from(["VALID", "SAME", "SAME_LOWER", (0, 1, 2, 0)]),
    ),
    bias=st.just(True),
    pool=st.none() | st.builds(
        PoolSpec, op=st.sampled_from(["max", "avg"]), window=st.integers(1, 2),
        ceil_mode=st.booleans(), count_include_pad=st.booleans(),
    ),
)  # fmt: skip


@given(st.lists(st.builds(Layer, TEXT, TEXT, TEXT, PIPELINES | st.none(), TEXT), max_size=4))
def test_what_is_written_can_be_read(tmp_path_factory, layers: list[Layer]) -> None:
    rows = fold(layers, "standard")
    text = to_toml(rows, [it for it in layers if it.pipeline is None], "a\nb")
    assert {row.pipeline for row in rows} == {it.pipeline for it in layers} - {None}
    if rows:
        file = tmp_path_factory.getbasetemp() / "rows.toml"
        file.write_text(text, encoding="utf-8")
        assert load(file) == rows


def test_equal_layers_are_one_row() -> None:
    one, other = (PipelineSpec(1, h, 5, 3, bias=True) for h in (5, 6))
    rows = fold(
        [
            Layer("A-net", "/Conv.1", "a.onnx", one),
            Layer("A-net", "conv 1", "a.onnx", other),
            Layer("A-net", "conv2", "a.onnx", one),
            Layer("b", "conv", "b.onnx", one),
        ],
        "smoke",
    )
    assert [(row.name, row.source, row.pipeline) for row in rows] == [
        ("a_net.conv_1", "a.onnx, /Conv.1 x2; b.onnx, conv", one),
        ("a_net.conv_1_2", "a.onnx, conv 1", other),
    ]


# -- ONNX -----------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path: Path):
    """Write a model of some nodes, and say where."""
    onnx = pytest.importorskip("onnx", reason="reads ONNX models: pip install 'convbench[onnx]'")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT

    def saved(*nodes, shape=(1, 3, 9, 8), weights=None, outputs=("y",), functions=(), opset=19):
        initializers = [
            helper.make_tensor(name, real, dims, bytes(4 * math.prod(dims)), raw=True)
            for name, dims in (weights or {}).items()
        ]
        graph = helper.make_graph(
            nodes, "net",
            [helper.make_tensor_value_info("x", real, shape)],
            [helper.make_tensor_value_info(name, real, None) for name in outputs],
            initializers,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, functions=list(functions), ir_version=9
        )
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return str(path)

    saved.node, saved.helper = helper.make_node, helper
    return saved


def test_a_model(save) -> None:
    path = save(
        save.node("Conv", ["x", "w", "b"], ["c"], "first", pads=[1, 0, 2, 3], strides=[2, 1]),
        save.node("Relu", ["c"], ["r"]),
        save.node("MaxPool", ["r"], ["p"], kernel_shape=[2, 3]),  # 6x9 becomes 5x7
        save.node("Conv", ["p", "v"], ["d"], auto_pad="SAME_UPPER", group=2, dilations=[1, 2]),
        save.node("Add", ["shift", "d"], ["e"]),
        save.node("Relu", ["e"], ["f"]),
        save.node("AveragePool", ["f"], ["g"], "avg", kernel_shape=[2, 2], count_include_pad=1),
        save.node("GlobalAveragePool", ["g"], ["y"]),
        weights={"w": [4, 3, 3, 3], "b": [4], "v": [6, 2, 3, 3], "shift": [6, 1, 1]},
    )
    found = read(path)
    assert [it.name for it in found] == ["first", "Conv_3", "avg", "GlobalAveragePool_7"]
    # Of ONNX's pads (top, left, bottom, right) is (9 + 3 - 3) // 2 + 1 = 5 by 8 + 3 - 3 + 1 = 9.
    # An average does not commute with the activation before it: it has a row of its own.
    assert specs(*found) == [
        PipelineSpec(
            1, 9, 8, 3, ConvSpec(4, 3, 3, (2, 1), padding=(1, 2, 0, 3)), bias=True,
            pool=PoolSpec("max", (2, 3), 1),
        ),
        PipelineSpec(1, 4, 7, 4, ConvSpec(6, 3, 3, 1, (1, 2), 2, "SAME"), bias=True),
        PipelineSpec(1, 4, 7, 6, pool=PoolSpec("avg", 2, 1, count_include_pad=True)),
        PipelineSpec(1, 3, 6, 6, pool=PoolSpec("avg", (3, 6))),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("used", "outputs", "together"),
    [("Relu", ("y",), False), ("", ("y", "c"), False), ("", ("y",), True)],
)
def test_a_pool_after_what_somebody_else_reads_has_its_own_row(
    save, used: str, outputs: tuple[str, ...], together: bool
) -> None:
    nodes = [
        save.node("Conv", ["x", "w"], ["c"]),
        save.node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    nodes += [save.node(used, ["c"], ["z"])] if used else []
    found = read(save(*nodes, weights={"w": [4, 3, 3, 3]}, outputs=outputs))
    assert len(found) == (1 if together else 2)
    assert (found[0].pipeline.pool is not None) == together


def test_a_normalisation_leaves_a_bias(save) -> None:
    path = save(
        save.node("Conv", ["x", "w"], ["c"]),
        save.node("BatchNormalization", ["c", "s", "s", "s", "s"], ["y"]),
        weights={"w": [4, 3, 3, 3], "s": [4]},
    )
    assert specs(*read(path)) == [PipelineSpec(1, 9, 8, 3, ConvSpec(4, 3, 3), bias=True)]


def test_what_is_added_to_a_convolution_and_is_no_bias(save) -> None:
    for dims in ([1, 4, 7, 6], [6], [1]):
        path = save(
            save.node("Conv", ["x", "w"], ["c"]),
            save.node("Add", ["c", "s"], ["y"]),
            weights={"w": [4, 3, 3, 3], "s": dims},
        )
        assert specs(*read(path)) == [PipelineSpec(1, 9, 8, 3, ConvSpec(4, 3, 3))], dims
    path = save(
        save.node("Conv", ["x", "w"], ["c"]),
        save.node("Add", ["c", "c"], ["y"]),
        weights={"w": [4, 3, 3, 3]},
    )
    assert specs(*read(path)) == [PipelineSpec(1, 9, 8, 3, ConvSpec(4, 3, 3))]


def test_sizes_that_are_open_are_given_by_shape(save) -> None:
    path = save(
        save.node("Conv", ["x", "w"], ["y"]), shape=("batch", 3, 9, 8), weights={"w": [4, 3, 3, 3]}
    )
    (reason,) = reasons(*read(path))
    assert "the shape of 'x' is ?x3x9x8; expected N x C x H x W in numbers" in reason
    assert specs(*read(path, [(8, 3, 11, 7)])) == [PipelineSpec(8, 11, 7, 3, ConvSpec(4, 3, 3))]
    with pytest.raises(WorkloadError, match="the number of shapes is 2"):
        read(path, [(8, 3, 11, 7)] * 2)
    (reason,) = reasons(*read(path, [(8, 3, 11)]))
    assert "the number of spatial axes is 1" in reason


@pytest.mark.parametrize(("opset", "rows"), [(19, 2), (22, 1)])
def test_windows_that_begin_behind_the_input(save, opset: int, rows: int) -> None:
    """They are in the output of ONNX up to operator set 21, and in that of nobody else."""
    node = save.node(
        "MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1], ceil_mode=1
    )
    found = read(save(node, shape=(1, 3, 2, 2), opset=opset))
    if rows == 1:
        pool = PoolSpec("max", 2, 3, (0, 1, 0, 1), ceil_mode=True)
        assert specs(*found) == [PipelineSpec(1, 2, 2, 3, pool=pool)]
    else:
        (reason,) = reasons(*found)
        assert "the output is 1x1x1x3; expected 1x2x2x3" in reason


def test_what_is_no_row_is_listed_and_the_rest_is_read(save) -> None:
    branch = save.helper.make_graph(
        [save.node("Conv", ["x", "w"], ["t"], "inside")], "b", [],
        [save.helper.make_tensor_value_info("t", 1, None)],
    )  # fmt: skip
    path = save(
        save.node("ConvTranspose", ["x", "t"], ["a"], "up"),
        save.node("MaxPool", ["x"], ["b", "places"], "places", kernel_shape=[2, 2]),
        save.node("LpPool", ["x"], ["c"], "lp", kernel_shape=[2, 2]),
        save.node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch),
        save.node("Conv", ["x", "gone"], ["e"], "unknown"),
        save.node("Conv", ["x", "w"], ["f"], "large", dilations=[5, 5]),
        save.node("Conv", ["x", "w"], ["y"], "fine"),
        weights={"w": [4, 3, 3, 3], "t": [3, 4, 3, 3]},
        outputs=("y", "places"),
    )
    found = read(path)
    assert [it.name for it in found] == [
        "up", "places", "lp", "inside", "inside", "unknown", "large", "fine"
    ]  # fmt: skip
    assert [it.name for it in found if it.pipeline is not None] == ["fine"]
    words = ("ConvTranspose", "second output", "LpPool", "branch", "branch", "'gone'", "dilated")
    for reason, word in zip(reasons(*found), words, strict=True):
        assert word in reason


def test_branches_in_branches_take_no_time(save) -> None:
    value = save.helper.make_tensor_value_info("t", 1, None)
    graph = save.helper.make_graph([save.node("Conv", ["x", "w"], ["t"])], "b", [], [value])
    for _ in range(25):
        nested = save.node("If", ["yes"], ["t"], then_branch=graph)
        graph = save.helper.make_graph([nested], "b", [], [value])
    path = save(save.node("If", ["yes"], ["y"], then_branch=graph))
    (reason,) = reasons(*read(path))
    assert "branch" in reason


def test_functions_are_read_where_they_are_called(save) -> None:
    body = [save.node("Conv", ["i", "k"], ["o"])]
    function = save.helper.make_function(
        "own", "Block", ["i", "k"], ["o"], body, [save.helper.make_opsetid("", 19)]
    )
    path = save(
        save.node("Block", ["x", "w"], ["y"], domain="own"),
        weights={"w": [4, 3, 3, 3]},
        functions=[function],
    )
    assert specs(*read(path)) == [PipelineSpec(1, 9, 8, 3, ConvSpec(4, 3, 3))]


HOSTILE = {
    "no filters": ("Conv", ["x"], ["y"], {}),
    "negative stride": ("Conv", ["x", "w"], ["y"], {"strides": [-1, 1]}),
    "odd pads": ("Conv", ["x", "w"], ["y"], {"pads": [1, 2, 3]}),
    "padding is text": ("Conv", ["x", "w"], ["y"], {"pads": "all"}),
    "padding is a number": ("Conv", ["x", "w"], ["y"], {"auto_pad": 3}),
    "no groups": ("Conv", ["x", "w"], ["y"], {"group": 0}),
    "other groups": ("Conv", ["x", "w"], ["y"], {"group": 2}),
    "no window": ("MaxPool", ["x"], ["y"], {}),
    "huge window": (
        "MaxPool",
        ["x"],
        ["y"],
        {"kernel_shape": [2**40] * 2, "pads": [2**40] * 4},
    ),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE)
def test_a_node_that_makes_no_sense_is_no_row(save, case) -> None:
    kind, inputs, outputs, attributes = case
    path = save(
        save.node(kind, inputs, outputs, **attributes),
        save.node("Relu", ["y"], ["y"]),  # a circle
        weights={"w": [4, 3, 3, 3]},
    )
    found = read(path)
    assert [it.pipeline for it in found] == [None]


def test_a_model_that_contradicts_itself(save) -> None:
    with pytest.raises(WorkloadError, match=r"the model is inconsistent .* Output 0"):
        read(save(save.node("Conv", ["x", "w"], []), weights={"w": [4, 3, 3, 3]}))


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_model_is_read_or_refused(save, data: st.DataObject) -> None:
    path = save(
        save.node("Conv", ["x", "w"], ["c"], pads=[1, 0, 2, 3]),
        save.node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], ceil_mode=1),
        weights={"w": [1, 3, 1, 1]},
    )
    content = bytearray(Path(path).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    Path(path).write_bytes(content)
    with contextlib.suppress(WorkloadError):
        read(path)


def test_a_name_that_is_no_text(save) -> None:
    path = save(save.node("Conv", ["x", "w"], ["y"], "name"), weights={"w": [4, 3, 3, 3]})
    Path(path).write_bytes(Path(path).read_bytes().replace(b"name", b"n\xffm\xff"))
    with pytest.raises(WorkloadError, match="expected"):
        read(path)


def test_resnet_50_is_what_the_paper_has() -> None:
    """A model of the onnx distribution, against the rows that were copied from a table by hand."""
    onnx = pytest.importorskip("onnx", reason="reads ONNX models: pip install 'convbench[onnx]'")
    data = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    if not (path := data / "light_resnet50.onnx").is_file():
        pytest.skip("this onnx comes without its test data")
    found = read(str(path))
    published = {w.pipeline for w in load() if w.name.startswith("resnet50_v1_5.")}
    assert {it.pipeline for it in found if it.pipeline.conv is not None} == {
        spec for spec in published if spec.conv is not None
    }
    assert len(found) == 54


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model(tmp_path_factory, content: bytes) -> None:
    pytest.importorskip("onnx", reason="reads ONNX models: pip install 'convbench[onnx]'")
    file = tmp_path_factory.getbasetemp() / "damaged.onnx"
    file.write_bytes(content)
    with pytest.raises(WorkloadError, match="expected"):
        read(str(file))


def test_a_model_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(WorkloadError, match=r"pip install \"convbench\[onnx\]\""):
        read(str(tmp_path / "net.onnx"))


# -- Factories ------------------------------------------------------------------------------------


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module in the current folder; its name."""
    name = f"nets_of_{tmp_path.name.rstrip('0123456789')}"

    def written(source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield written
    sys.modules.pop(name, None)


KERAS = """
import keras
from keras import layers as L

class ConvBlock(L.Layer):
    def __init__(self):
        super().__init__()
        self.inner = L.Conv2D(4, 3, dilation_rate=2, groups=2, name="inner")

    def call(self, x):
        return self.inner(inputs=x)

def net():
    print("no row")
    x = i = keras.Input((None, None, 3))
    for layer in (
        L.Conv2D(8, 3, padding="same", activation="relu", name="first"),
        L.MaxPooling2D(3, 2, padding="same", name="pool"),
        L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, use_bias=False, name="depth"),
        L.SeparableConv2D(12, 3, padding="same", name="separable"),
        L.Conv2DTranspose(4, 3, name="up"),
        keras.Sequential([ConvBlock()]),
        L.GlobalAveragePooling2D(name="mean"),
    ):
        x = layer(x)
    return keras.Model(i, x)
"""


def test_a_keras_model(factory, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras", reason="reads Keras models: it comes with TensorFlow")
    found = read(f"{factory(KERAS)}:net", [(2, 17, 16, 3)])
    assert capsys.readouterr().out == ""
    # 17x16 is halved to 9x8, then (9 - 3) // 2 + 1 = 4 by 3; transposed 6x5, and dilated 2x1.
    assert {it.name: it.pipeline for it in found} == {
        "first": PipelineSpec(2, 17, 16, 3, ConvSpec(8, 3, 3, padding="SAME"), bias=True),
        "pool": PipelineSpec(2, 17, 16, 8, pool=PoolSpec("max", 3, 2, "SAME")),
        "depth": PipelineSpec(2, 9, 8, 8, ConvSpec(16, 3, 3, 2, groups=8)),
        "separable depthwise": PipelineSpec(
            2, 4, 3, 16, ConvSpec(16, 3, 3, groups=16, padding="SAME")
        ),
        "separable pointwise": PipelineSpec(2, 4, 3, 16, ConvSpec(12, 1, 1), bias=True),
        "up": None,
        "inner": PipelineSpec(2, 6, 5, 4, ConvSpec(4, 3, 3, dilation=2, groups=2), bias=True),
        "mean": PipelineSpec(2, 2, 1, 4, pool=PoolSpec("avg", (2, 1))),
    }
    assert "Conv2DTranspose" in reasons(*found)[0]


TORCH = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU())
        self.other = nn.Conv2d(8, 4, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 4, 3)

    def forward(self, x):
        x = self.other(F.max_pool2d(self.block(x), 2))
        self.up(x)
        x = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
        F.adaptive_avg_pool2d(x, 3), F.adaptive_avg_pool2d(x, 2)
        return F.adaptive_avg_pool2d(x, 1)

net = Net()
"""


def test_a_torch_model(factory) -> None:
    pytest.importorskip("torch", reason="reads PyTorch models, and PyTorch is not installed")
    found = read(f"{factory(TORCH)}:net", [(2, 3, 17, 16)])
    # 17x16, 8x8, then (8 + 2 - 3) // 2 + 1 = 4 by (8 + 4 - 3) + 1 = 10, and 3x6 with ceil_mode.
    assert specs(*found) == [
        PipelineSpec(2, 17, 16, 3, ConvSpec(8, 3, 3, padding=1), bias=True),
        PipelineSpec(2, 17, 16, 8, pool=PoolSpec("max", 2)),
        PipelineSpec(2, 8, 8, 8, ConvSpec(4, 3, 2, (2, 1), (1, 2), 2, (1, 2))),
        None,
        PipelineSpec(
            2, 4, 10, 4,
            pool=PoolSpec("avg", 3, 2, 1, count_include_pad=True, ceil_mode=True),
        ),
        PipelineSpec(2, 3, 6, 4, pool=PoolSpec("avg", (1, 2))),
        None,
        PipelineSpec(2, 3, 6, 4, pool=PoolSpec("avg", (3, 6))),
    ]  # fmt: skip
    assert found[0].name == "block.0 convolution"
    assert ["transposed" in reason for reason in reasons(*found)] == [True, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaves", "the call is a failure .SystemExit: 0"),
        ("fails", "the call is a failure .ZeroDivisionError"),
        ("three", "the result is a int; expected a torch.nn.Module or a keras.Model"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_factory_that_makes_no_model(factory, name: str, message: str) -> None:
    source = "import sys\nleaves = lambda: sys.exit(0)\nfails = lambda: 1 / 0\nthree = lambda: 3\n"
    before = list(sys.path)
    with pytest.raises(WorkloadError, match=message):
        read(f"{factory(source)}:{name}", [(1,)])
    assert sys.path == before


def test_a_factory_needs_shapes() -> None:
    with pytest.raises(WorkloadError, match="--shape is absent"):
        read("convbench:absent")
