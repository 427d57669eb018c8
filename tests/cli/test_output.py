"""How commands tell how it goes."""

from convbench.cli.output import with_progress


def test_an_item_is_handed_on_before_it_is_told(capsys):
    """Whenever Ctrl-C comes, what a person was told is finished has been kept."""
    for item in with_progress(iter(["first", "second"]), 2, str):
        assert item not in capsys.readouterr().err
    assert "2/2 second" in capsys.readouterr().err
