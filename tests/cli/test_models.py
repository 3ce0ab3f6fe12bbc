"""The command ``nnmedseg_models`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nnmedseg.networks import list_networks

COMMAND = "import sys; from nnmedseg.cli.models import main; sys.exit(main())"


def run(*arguments: str, code: str = COMMAND) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def table() -> subprocess.CompletedProcess:
    return run()


def test_the_table_has_one_line_a_network(table):
    lines = table.stdout.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *list_networks()]


def test_the_table_is_all_that_is_printed(table):
    assert (table.returncode, table.stderr) == (0, "")


def test_the_table_says_how_operations_are_counted(table):
    assert "a multiply-add counts two" in table.stdout


def test_a_name_shows_the_card():
    done = run("rosper")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("RoSPER-Net (rosper)\n")
    assert "476,108" in done.stdout


def test_the_list_is_json_on_request():
    rows = json.loads(run("--json").stdout)
    assert {row["name"]: row["parameters"] for row in rows}["rosper"] == 476_108


def test_a_card_is_json_on_request():
    card = json.loads(run("condseg", "--json").stdout)
    assert {"data_set": "GlaS", "metric": "mIoU", "value": 85.1, "unit": "%"} in card["results"]


def test_an_unknown_name_gives_the_nearest_and_exit_code_2():
    done = run("rospr")
    assert done.returncode == 2
    assert "did you mean 'rosper'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom nnmedseg.cli.models import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'nnunetv2', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = run("--help", code=code)
    assert done.returncode == 0, done.stderr
