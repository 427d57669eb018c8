"""The file of workloads: its format, its facts and what its lists cover."""

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from convbench.errors import SpecError, WorkloadError
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.workloads import (
    BUILT_IN,
    TIERS,
    Workload,
    find,
    load,
    neighbour,
    select,
)

FILE = BUILT_IN
ROWS = load(FILE)
PIPELINES = {row.name: row.pipeline for row in ROWS}
STANDARD = [row.pipeline for row in select(ROWS, "standard")]


# -- reading -------------------------------------------------------------------------------------

ROW = """
[[workload]]
name     = "net.conv"
source   = "a paper, conv"
tier     = "smoke"
pipeline = { n = 1, h = 5, w = 7, c = 3, conv = { k = 6, r = 3, s = 3 }, bias = true }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rows.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_is_read(tmp_path):
    pipeline = PipelineSpec(1, 5, 7, 3, conv=ConvSpec(6, 3, 3), bias=True)
    expected = (Workload("net.conv", pipeline, "smoke", "a paper, conv"),)
    path = write(tmp_path, ROW)
    assert load(path) == expected
    assert load(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[workload]]\nname = net.conv\n",
         "{path}: the text is not TOML (Invalid value (at line 2, column 8)); expected TOML 1.0,"
         " in UTF-8. Correct it there; an inline table stays on one line."),
        ("",
         "{path}: workload is empty; expected one or more [[workload]] tables."
         " Write each row under [[workload]]."),
        ("[workload]\nname = 'net.conv'",
         "{path}: workload is not an array; expected one or more [[workload]] tables."
         " Write each row under [[workload]]."),
        ("[defaults]\nn = 1\n" + ROW,
         "{path}: the key is defaults; expected nothing but [[workload]] tables. Remove it."),
        ("workload = ['net.conv']",
         "{path}, row 1: the value is 'net.conv'; expected a table with name, pipeline, tier,"
         " source. Write each row under [[workload]]."),
        (ROW + "n = 8\nbatch = 8",
         "{path}, row 1 (net.conv): the field is batch, n; expected one of name, pipeline, tier,"
         " source. Correct it."),
        ("[[workload]]\npipeline = {}\ntier = 'full'",
         "{path}, row 1: name, source is missing; expected a value for each. Add it."),
        (ROW.replace("net.conv", "Net.conv"),
         "{path}, row 1 (Net.conv): the name is 'Net.conv'; expected network.layer in lower-case"
         " letters, digits and underscores. Rename the row."),
        (ROW.replace('"net.conv"', "7"),
         "{path}, row 1: the name is 7; expected network.layer in lower-case letters, digits and"
         " underscores. Rename the row."),
        (ROW.replace("smoke", "quick"),
         "{path}, row 1 (net.conv): the tier is 'quick'; expected one of smoke, standard, full."
         " Choose one."),
        (ROW.replace("a paper, conv", ""),
         "{path}, row 1 (net.conv): the source is ''; expected the paper or benchmark, and its"
         " layer. Say where the pipeline was published."),
        (ROW + ROW,
         "{path}, row 2: the name is 'net.conv' again; expected a name that no row above has."
         " Rows are append-only: rename this one."),
        (ROW.replace("r = 3", "r = 6"),
         "{path}, row 1 (net.conv), conv, height: the filter is 6; expected at most the 5 there"
         " are. Make it smaller, pad more, or feed a larger input to this stage."),
        (ROW.replace("bias", "biased"),
         "{path}, row 1 (net.conv), pipeline: the field is biased; expected one of n, h, w, c,"
         " conv, bias, pool. Correct it."),
    ],
)  # fmt: skip
def test_refusals_say_where_and_what_to_do(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(WorkloadError) as refusal:
        load(path)
    assert str(refusal.value) == message.format(path=path)


@pytest.mark.parametrize("name", ["net", "net.", ".conv", "net..conv", "net.conv-1", "net.conv\n"])
def test_names_that_are_refused(tmp_path, name):
    text = ROW.replace('"net.conv"', repr(name).replace("'", '"'))
    with pytest.raises(WorkloadError, match="expected network"):
        load(write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path):
    missing = tmp_path / "none.toml"
    with pytest.raises(WorkloadError) as refusal:
        load(missing)
    assert str(refusal.value) == (
        f"{missing}: the file is not readable (No such file or directory); expected a file of"
        " workloads. Check the path."
    )


def test_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "rows.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(WorkloadError, match=r"not TOML .*can't decode byte 0xe9 in position 5"):
        load(path)


def test_the_rows_that_come_with_the_package_need_no_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load() == ROWS


def test_a_project_adds_rows_of_its_own(tmp_path):
    rows = load(FILE, write(tmp_path, ROW))
    assert rows[:-1] == ROWS
    assert rows[-1].name == "net.conv"
    again = write(tmp_path, ROW.replace("net.conv", "vgg16.conv1_2"))
    with pytest.raises(WorkloadError, match=r"rows.toml, row 1: .*'vgg16.conv1_2' again"):
        load(FILE, again)


# -- choosing ------------------------------------------------------------------------------------


def test_lists_are_nested():
    lists = [select(ROWS, tier) for tier in TIERS]
    assert lists[-1] == ROWS
    for smaller, larger in pairwise(lists):
        assert set(smaller) < set(larger)


def test_an_unknown_list():
    with pytest.raises(WorkloadError) as refusal:
        select(ROWS, "all")
    assert str(refusal.value) == (
        "workloads: the list is 'all'; expected one of smoke, standard, full. Choose one."
    )


def test_find_keeps_the_order_of_the_names():
    names = ["vgg16.conv1_2", "notebook.conv"]
    assert [row.name for row in find(ROWS, names)] == names
    assert find(ROWS, []) == ()


def test_find_offers_names_that_are_spelled_alike():
    with pytest.raises(WorkloadError) as refusal:
        find(ROWS, ["notebook.conv", "notebook.maxpool"])
    message = str(refusal.value)
    assert message.startswith(
        "workloads: the name is 'notebook.maxpool'; expected the name of a row. Did you mean "
    )
    assert "notebook.pool" in message
    with pytest.raises(WorkloadError, match="No row is spelled like it"):
        find(ROWS, ["?"])


# -- the file ------------------------------------------------------------------------------------


def test_the_notebook():
    smoke = {row.name: row.pipeline for row in select(ROWS, "smoke")}
    assert smoke["notebook.conv"] == PipelineSpec(
        1, 5, 5, 3, conv=ConvSpec(k=6, r=5, s=5, stride=2, padding="VALID"), bias=True
    )
    for name, op in (("notebook.pool", "max"), ("notebook.avg_pool", "avg")):
        pool = PoolSpec(op, window=2, stride=2, padding="VALID")
        assert smoke[name] == PipelineSpec(1, 5, 5, 3, pool=pool)
    assert smoke["notebook.conv"].output_shape == (1, 1, 1, 6)
    assert smoke["notebook.pool"].output_shape == (1, 2, 2, 3)


def test_the_notebooks_stages_do_not_chain():
    conv, pool = PIPELINES["notebook.conv"], PIPELINES["notebook.pool"]
    with pytest.raises(SpecError) as refusal:
        PipelineSpec(1, 5, 5, 3, conv=conv.conv, bias=True, pool=pool.pool)
    assert str(refusal.value) == (
        "pool after conv (which turns 5x5 into 1x1), height: the window is 2; expected at most the"
        " 1 there are. Make it smaller, pad more, or feed a larger input to this stage."
    )


def test_rows_say_what_differs_from_the_defaults_and_no_more():
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))["workload"]
    assert [(row["name"], row["pipeline"]) for row in rows] == [
        (row.name, row.pipeline.to_dict()) for row in ROWS
    ]


def test_a_network_has_each_pipeline_once():
    once = {(row.name.partition(".")[0], row.pipeline) for row in ROWS}
    assert len(once) == len(ROWS)


# How often a network has a layer, where that is not once, as in the papers' tables. The sums below
# are those of the published networks for one image: the parameters are what torchvision's models
# (for AlexNet with groups Caffe's) hold in their convolutions, with the biases that are trained.
REPEATED = {
    "vgg16": {"conv5_1": 2},
    "resnet50_v1_5": {
        "res2a_3x3": 3, "res2a_1x1b": 4, "res2b_1x1a": 2,
        "res3a_1x1b": 4, "res3b_1x1a": 3, "res3b_3x3": 3,
        "res4a_1x1b": 6, "res4b_1x1a": 5, "res4b_3x3": 5,
        "res5a_1x1b": 3, "res5b_1x1a": 2, "res5b_3x3": 2,
    },
    "mobilenet_v2": {
        "b3_expand": 2, "b5_expand": 3, "b5_dw": 2, "b5_project": 2, "b8_expand": 4, "b8_dw": 4,
        "b8_project": 3, "b12_expand": 3, "b12_dw": 2, "b12_project": 2, "b15_expand": 3,
        "b15_dw": 3, "b15_project": 2,
    },
    "inception_v3": {
        "5b_b1_1x1": 2, "5b_b5_5x5": 3, "5b_b3_3x3a": 4, "5b_b3_3x3b": 3, "5c_b1_1x1": 3,
        "5d_b1_1x1": 4, "6b_b1_1x1": 12, "6b_b7_1x1": 2, "6b_b7_1x7": 2, "6b_d7_7x1a": 2,
        "6c_b7_1x1": 4, "6c_b7_1x7": 4, "6c_b7_7x1": 2, "6c_d7_7x1a": 4, "6c_d7_1x7b": 2,
        "6e_b7_1x7": 4, "6e_b7_7x1": 4, "7b_b3_1x3": 4, "7b_b3_3x1": 4, "7b_d3_3x3": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("network", "layers", "macs", "parameters"),
    [
        ("vgg16", 13, 15_346_630_656, 14_714_688),  # arXiv:1409.1556, configuration D
        ("alexnet_grouped", 5, 665_784_864, 2_334_080),  # Krizhevsky 2012; Caffe's bvlc_alexnet
        ("alexnet_owt", 5, 655_566_528, 2_469_696),  # arXiv:1404.5997
        ("resnet50_v1_5", 53, 4_087_136_256, 23_454_912),  # arXiv:1512.03385, table 1
        ("mobilenet_v2", 52, 299_494_272, 2_189_760),  # arXiv:1801.04381, table 2
        ("inception_v3", 94, 5_711_168_096, 21_751_136),  # arXiv:1512.00567
        ("unet", 19, 144_797_047_040, 28_244_418),  # arXiv:1505.04597, without up-convolutions
    ],
)
def test_a_network_adds_up(network, layers, macs, parameters):
    trained = network in {"vgg16", "alexnet_grouped", "alexnet_owt", "unet"}
    counts = REPEATED.get(network, {})
    assert {f"{network}.{layer}" for layer in counts} <= set(PIPELINES)
    total = {"layers": 0, "macs": 0, "parameters": 0}
    for name, pipeline in PIPELINES.items():
        prefix, _, layer = name.partition(".")
        if prefix == network and pipeline.conv is not None:
            assert pipeline.n == 1
            assert pipeline.bias  # its own, or what is left of the batch normalisation
            _, p, q, k = pipeline.conv_shape
            count = counts.get(layer, 1)
            total["layers"] += count
            total["macs"] += count * p * q * k * pipeline.reduction
            total["parameters"] += count * k * (pipeline.reduction + trained)
    assert total == {"layers": layers, "macs": macs, "parameters": parameters}


def test_sources_count_the_repeated_layers():
    counted = {
        row.name: int(row.source.rpartition(" x")[2])
        for row in ROWS
        if row.pipeline.conv is not None and " x" in row.source
    }
    assert counted == {
        f"{network}.{layer}": count
        for network, layers in REPEATED.items()
        for layer, count in layers.items()
    }


def test_convnet_benchmarks_adds_up():
    rows = [PIPELINES[f"convnet_benchmarks.l{i}"] for i in range(1, 6)]
    assert {row.n for row in rows} == {128}
    assert not any(row.bias for row in rows)
    assert sum(row.flops for row in rows) == 2 * 128 * 3_571_395_712
    assert PIPELINES["convnet_benchmarks.l3_n1"].with_batch(128) == rows[2]


def test_deepbench_is_complete():
    rows = {name: row for name, row in PIPELINES.items() if name.startswith("deepbench.")}
    assert len(rows) == 191  # its three sets have 208, some of them in common
    assert {row.n for row in rows.values()} == {1, 2, 4, 8, 16, 32}
    assert not any(row.bias or row.pool for row in rows.values())
    for name, row in rows.items():
        conv = row.conv
        (stride, _), pad = conv.stride, 0 if conv.padding == "VALID" else conv.padding[0]
        text = f"deepbench.{row.n}x{row.h}x{row.w}x{row.c}_{conv.r}x{conv.s}x{conv.k}"
        text += f"_s{stride}" * (stride > 1) + f"_p{pad}" * (pad > 0)
        assert text == name


@pytest.mark.parametrize(
    ("name", "conv", "output"),
    [
        ("vgg16.conv1_2", (224, 224), (112, 112)),
        ("vgg16.conv5_3", (14, 14), (7, 7)),
        ("alexnet_grouped.conv1", (55, 55), (27, 27)),
        ("alexnet_owt.conv5", (13, 13), (6, 6)),
        ("resnet50_v1_5.conv1", (112, 112), (56, 56)),
        ("resnet50_v1_5.res5a_3x3", (7, 7), (7, 7)),
        ("resnet50_v1_5.gap", (7, 7), (1, 1)),
        ("mobilenet_v2.b2_dw", (56, 56), (56, 56)),
        ("mobilenet_v2.conv_last", (7, 7), (1, 1)),
        ("inception_v3.2b_3x3", (147, 147), (73, 73)),
        ("inception_v3.4a_3x3", (71, 71), (35, 35)),
        ("inception_v3.6a_3x3", (17, 17), (17, 17)),
        ("inception_v3.6b_b7_1x7", (17, 17), (17, 17)),
        ("inception_v3.7a_max", (17, 17), (8, 8)),
        ("inception_v3.7b_avg", (8, 8), (8, 8)),
        ("unet.down0_2", (568, 568), (284, 284)),
        ("unet.out", (388, 388), (388, 388)),
        ("deepbench.4x161x700x1_5x20x32_s2", (79, 341), (79, 341)),
        ("convnet_benchmarks.l2", (56, 56), (56, 56)),
    ],
)
def test_published_output_sizes(name, conv, output):
    pipeline = PIPELINES[name]
    assert pipeline.conv_shape[1:3] == conv
    assert pipeline.output_shape[1:3] == output


# -- what the lists cost and cover ---------------------------------------------------------------


def test_smoke_is_quick():
    smoke = [row.pipeline for row in select(ROWS, "smoke")]
    assert len(smoke) <= 10
    assert all(pipeline.flops < 0.3e9 for pipeline in smoke)
    for covered in (
        lambda p: p.conv and p.bias and p.pool and p.pool.op == "max",
        lambda p: p.conv and p.conv.groups == p.c,
        lambda p: p.conv and p.conv.stride == (2, 2),
        lambda p: p.conv and p.conv.r != p.conv.s,
        lambda p: p.conv and (p.conv.r, p.conv.s) == (1, 1),
        lambda p: p.conv and (p.conv.r, p.conv.s) == (3, 3),
        lambda p: p.pool and p.pool.op == "avg",
    ):
        assert any(map(covered, smoke))


def test_standard_is_small():
    assert len(STANDARD) <= 30
    assert all(pipeline.flops <= 4e9 for pipeline in STANDARD)
    assert sum(pipeline.flops for pipeline in STANDARD) <= 40e9


def test_standard_covers_every_source():
    sources = {row.name.partition(".")[0] for row in ROWS}
    assert {row.name.partition(".")[0] for row in select(ROWS, "standard")} == sources


CONVS = [pipeline for pipeline in STANDARD if pipeline.conv]
POOLS = [pipeline for pipeline in STANDARD if pipeline.pool]


@pytest.mark.parametrize("filter_", [(1, 1), (3, 3), (7, 7), (11, 11), (5, 20), (1, 7), (7, 1)])
def test_standard_covers_the_filter(filter_):
    assert filter_ in {(p.conv.r, p.conv.s) for p in CONVS}


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_standard_covers_depthwise(stride):
    assert stride in {p.conv.stride for p in CONVS if p.conv.groups == p.c == p.conv.k > 1}


def test_standard_covers_stride_groups_channels_and_batch():
    assert {(1, 1), (2, 2)} <= {p.conv.stride for p in CONVS if p.conv.groups == 1}
    assert any(1 < p.conv.groups < p.c for p in CONVS)
    assert {1, 3} <= {p.c for p in CONVS}
    assert {1, 4, 8, 16} <= {p.n for p in CONVS}


@pytest.mark.parametrize("op", ["max", "avg"])
@pytest.mark.parametrize("alone", [True, False])
def test_standard_covers_pooling(op, alone):
    assert any(p.pool.op == op and (p.conv is None) == alone for p in POOLS)


def test_a_neighbour_follows_from_its_seed_and_is_found_by_its_name():
    for row in ROWS[:60]:
        near = neighbour(row, 0xC0FFEE)
        assert near is not None
        assert near.pipeline != row.pipeline
        assert near.pipeline.conv == row.pipeline.conv
        assert find(ROWS, [near.name]) == (near,)
    assert len({neighbour(ROWS[0], seed).pipeline for seed in range(20)}) > 10


@pytest.mark.parametrize("seed", ["", "x", "123456789", "-1"])
def test_a_neighbour_of_no_seed_is_refused(seed):
    with pytest.raises(WorkloadError, match=r"expected up to 8 hexadecimal digits"):
        find(ROWS, [f"{ROWS[0].name}+{seed}"])
