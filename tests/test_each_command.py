"""A quick look at each command, in this process: one small run, used by all others. Other tests of them are slow."""

from collections.abc import Callable

import pytest
from in_process import act_as_command

from ratinglab.cli import COMMANDS, main

TRAIN = "train data=csv data.path=ratings.csv data.cache=null trainer=debug logger=none hydra.run.dir="
LINES = {
    f"{TRAIN}again": "epoch 2/2",
    "evaluate run": "equal to metrics.json to the last digit",
    "recommend run user=1 k=2": "recommended to user 1",
    "similar run item=2 k=3": "similarity",
    "predict run input=pairs.csv output=out.csv": "1 prediction in out.csv",
    "export run format=numpy output=exported": "folder     exported",
    "reproduce run": "reproduced: every metric is equal to the last digit",
    "report run": "mf",
    "inspect_data ratings.csv": "400 ratings of 20 users",
}
"""A line of each command, and a part of what it prints."""


@pytest.fixture(scope="module")
def run_line(tmp_path_factory) -> Callable[[str], None]:
    """Return a function that runs a line of the program ratinglab in a folder with ratings, pairs and a run."""
    folder = tmp_path_factory.mktemp("each")
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(20) for item in range(20)]
    (folder / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    (folder / "pairs.csv").write_text("user_id,item_id\n1,2\n")

    def run(line: str) -> None:
        with act_as_command("ratinglab", *line.split(), folder=folder):
            main()

    run(f"{TRAIN}run")
    return run


def test_each_command_but_the_server_has_a_line():
    assert {line.split()[0] for line in LINES} == COMMANDS.keys() - {"serve"}


@pytest.mark.parametrize(("line", "output"), LINES.items(), ids=[line.split()[0] for line in LINES])
def test_command_runs(run_line, capsys, line, output):
    run_line(line)
    assert output in capsys.readouterr().out


MISTAKES = {
    "train model.embeding_dim=3": "unknown key model.embeding_dim; did you mean model.embedding_dim?",
    "report": "the following arguments are required: folders; see --help",
    "report run --modles": "unrecognized arguments: --modles; see --help",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistake_is_one_line(run_line, capsys, line):
    with pytest.raises(SystemExit) as end:
        run_line(line)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"error: {MISTAKES[line]}\n")
