"""The scripts a person runs first."""

import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("script", ["tools/serve", "tools/test", "tools/setup", "tools/segment", "tools/lag", ".ci/run"])
def test_the_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    shell = "bash" if script == ".ci/run" else "sh"
    subprocess.run([shell, "-n", str(ROOT / script)], check=True)


def test_serve_comes_up_with_the_arguments_it_is_given(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".installed-dev").exists():
        pytest.skip("the environment was not made by tools/setup, which would now install into it")
    command = [str(ROOT / "tools" / "serve"), "--http", "127.0.0.1:0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            url = next(line.split()[2] for line in serving.stdout if line.startswith("listening http "))
            with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
                assert answer.status == 200
        finally:
            serving.terminate()
    assert serving.returncode == 0


def test_an_unknown_profile_is_refused() -> None:
    done = subprocess.run([str(ROOT / "tools" / "setup"), "prod"], capture_output=True, text=True, check=False)
    assert (done.returncode, "unknown profile 'prod'" in done.stderr) == (2, True)
