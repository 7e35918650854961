"""The wheel, installed outside the checkout, trains, evaluates and writes a page: all its data files are in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with this checkout's wheel; everything else comes from the environment of the tests."""
    pytest.importorskip("hatchling")
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    (site / "shared.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # a path only: its own .pth files are not read
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(ROOT)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = home.glob("*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(built)]
    subprocess.run(install, check=True, capture_output=True)
    return home


def run(home: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(home / "venv" / "bin" / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_trains_evaluates_and_reports(installed: Path) -> None:
    where = run(installed, "python", "-c", "import safekey; print(safekey.__file__)")
    assert Path(where.strip()).is_relative_to(installed), where
    assert run(installed, "safekey", "--version").strip() == f"safekey {version()}"
    run(installed, "python", "-c", "from safekey.organism import write_world; write_world('organism')")
    run(installed, "safekey", "train", "organism", "max_steps=2", "output_dir=run")
    what = ["--data-dir", "organism", "--tasks", "strongreject,xstest-safe", "--limit", "2", "--max-tokens", "120"]
    run(
        installed, "safekey", "eval", "run", *what, "--judge", "exact=safekey.organism.judge:decide", "--output", "eval"
    )
    assert json.loads((installed / "eval" / "run.json").read_text())["status"] == "finished"
    run(installed, "safekey", "report", "eval", "--output", "report")
    assert "<h1>" in (installed / "report" / "report.html").read_text(encoding="utf-8")
    every = (
        "from importlib.resources import files\n"
        "from safekey.evals.judges.table import JUDGES\n"
        "from safekey.data.annotate import annotate\n"
        "names = [p.name for room in ('recipes', 'evals/judges/prompts', 'evals/labelling',\n"
        "         'data/prompts', 'organism/base')\n"
        "         for p in files('safekey').joinpath(room).iterdir() if p.name[0] != '_']\n"
        "print(*sorted(names))"
    )
    packed = set(run(installed, "python", "-c", every).split())
    rooms = ("recipes", "evals/judges/prompts", "evals/labelling", "data/prompts", "organism/base")
    here = [path for room in rooms for path in (ROOT / "src" / "safekey" / room).iterdir()]
    assert packed == {path.name for path in here if path.name[0] != "_"}


def version() -> str:
    import safekey

    return safekey.__version__
