"""The frame of the command line: global options, help, errors and exit codes, start-up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from logbroker import errors
from logbroker.cli import failures
from logbroker.cli.main import COMMANDS, cli, run


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGBROKER_URL", "LOGBROKER_OUTPUT", "LOGBROKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "line",
    [["-o", "json", "version"], ["version", "-o", "json"], ["-o", "table", "version", "--output", "json"]],
    ids=" ".join,
)
def test_a_global_option_is_taken_anywhere_and_the_last_one_wins(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"version", "python"}


def test_global_options_work_after_a_command_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "-d", "/somewhere", "-o", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name": "data_dir", "value": "/somewhere", "source": "flag --data-dir"} in rows


def test_the_table_of_commands_says_what_each_command_says() -> None:
    context = cli.make_context("logbroker", [], resilient_parsing=True)
    for name, where in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(limit=200) == where.summary


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, where in COMMANDS.items():
        assert f"  {name}" in shown
        assert where.summary in shown
    assert "Global options:" in shown


def test_help_and_offline_commands_load_neither_aiohttp_nor_rich() -> None:
    code = (
        "import sys\nfrom logbroker.cli.main import run\n"
        "run(['--help']); run(['config', 'show']); run(['topic', '--help']); run(['consume', '--help'])\n"
        "print([name for name in ('aiohttp', 'rich', 'asyncio') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_unknown_commands_and_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == failures.USAGE
    assert run(["topic", "ls", "--nonsense"]) == failures.USAGE
    assert run(["-o", "xml", "version"]) == failures.USAGE
    assert "No such command 'nonsense'" in capsys.readouterr().err


def test_a_broker_that_is_not_there_ends_in_an_error_a_hint_and_exit_code_7(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topic", "ls", "--url", "http://127.0.0.1:1"]) == 7
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error[UNREACHABLE]: http://127.0.0.1:1 does not answer: [Errno 111] Connection refused",
        "hint: is it running? Start one with 'logbroker serve', or name another with --url or LOGBROKER_URL",
    ]


def test_errors_are_problem_objects_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topic", "ls", "--url", "http://127.0.0.1:1", "-o", "json"]) == 7
    problem = json.loads(capsys.readouterr().err)
    assert (problem["code"], problem["retriable"]) == ("UNREACHABLE", True)


def test_an_address_that_is_no_url_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topic", "ls", "--url", "ftp://somewhere"]) == failures.USAGE
    assert "no URL of a broker" in capsys.readouterr().err


def test_a_bad_configuration_file_ends_in_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("nonsense = 1")
    assert run(["config", "check", "--config", str(file)]) == failures.USAGE
    assert capsys.readouterr().err.startswith(f"error[INVALID_CONFIG]: {file}: there is no setting 'nonsense'")


def test_config_check_warns_of_variables_that_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGBROKER_DURABLITY", "os")
    assert run(["config", "check"]) == 0
    assert "LOGBROKER_DURABLITY is no setting" in capsys.readouterr().err


def test_every_error_has_an_exit_code_that_is_not_success() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LogbrokerError)]
    for kind in kinds:
        assert failures.exit_code(kind()) in range(1, 9)
    assert failures.exit_code(errors.UnknownTopicOrPartition()) == 4
    assert failures.exit_code(errors.DiskFull()) == failures.FAILURE


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "from logbroker.cli.main import run; import sys; sys.exit(max(run(['config', 'schema']) for _ in range(100)))"
    line = f'{sys.executable} -c "{code}" | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
