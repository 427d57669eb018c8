"""Where results and evidence lie, and what their names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from convbench.results.folder import Filed, Folder


@pytest.mark.parametrize(
    ("results_dir", "evidence"),
    [
        (".asv/results", ".asv/evidence"),
        ("results", "evidence"),
        ("measured/of all/results", "measured/of all/evidence"),
    ],
)
def test_the_evidence_lies_beside_the_results_that_a_configuration_names(
    tmp_path, results_dir, evidence
):
    config = tmp_path / "asv.conf.json"
    config.write_text(
        '{\n// "results_dir": "not/this",\n/* "results_dir": "nor this", */'
        f'"repo": "https://example.org/a.git", "results_dir": "{results_dir}", // asv\'s\n}}'
    )
    folder = Folder.of_config(config)
    assert folder.results == tmp_path / results_dir
    assert folder.evidence == tmp_path / evidence


@pytest.mark.parametrize("text", [None, "", "{", '{"version": 1}', "\x00"])
def test_without_a_word_of_it_the_results_are_where_asv_puts_them(tmp_path, text):
    config = tmp_path / "asv.conf.json"
    if text is not None:
        config.write_text(text)
    assert Folder.of_config(config).results == tmp_path / ".asv" / "results"


def test_the_folder_that_one_stands_in_has_evidence_beside_it(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path / "results")
    assert Folder(Path()).evidence == tmp_path / "evidence"


@pytest.mark.parametrize(
    ("path", "filed"),
    [
        ("a/results/vm/0123abcd-virtualenv-py3.11.json", ("vm", "0123abcd", "virtualenv-py3.11")),
        ("vm/0123abcd-env.jsonl", ("vm", "0123abcd", "env")),
        ("vm/machine.json", None),
        ("results/benchmarks.json", None),
        ("vm/0123ABCD-env.json", None),
        ("vm/0123abc-env.json", None),
    ],
)
def test_a_name_says_what_is_in_the_file(path, filed):
    found = Filed.of(Path(path))
    assert found == (filed and Filed(*filed))
    if found is not None:
        folder = Folder(Path("results"))
        assert Filed.of(folder.results_of(found)) == Filed.of(folder.evidence_of(found)) == found
