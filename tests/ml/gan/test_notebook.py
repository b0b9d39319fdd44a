"""The notebook runs from top to bottom, at a size at which it takes a moment."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from ml.options.gan import GAN_PRESETS
from tests.support import REPOSITORY

# The first test of any selection waits for the whole run, about 20 s of one core.
pytestmark = pytest.mark.timeout(600)

NOTEBOOK = REPOSITORY / "docs" / "gans" / "gans.ipynb"
FIGURES = {
    "orbit": ["Gradient play on V(x, y) = xy around its Nash point"],
    "gradients": ["Size of the generator's gradient under a perfect opponent"],
    "drift": ["Divergences of P = N(0, 1²)", "Divergences of two uniform distributions"],
    "slopes": ["Slope of the critic on the way from the fakes to a real cluster"],
    "histograms": ["Weights of a critic: clipping", "Weights of a critic: gradient penalty"],
}
# What the parameters say is said again, for a tiny world and a moment.
TINY = """
from tests.support.gan_world import pixel_space

FEATURES = [pixel_space()]
SAMPLES = 32
CHANGES = {"steps": 1, "evaluation_interval": 1, "batch_size": 8, "critic_steps": 1}
CHANGES |= {"latent": 8, "width": 2, "min_diversity": 0.0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook's runs go."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after a run in a new kernel."""
    home = tmp_path_factory.mktemp("jupyter")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    position = [cell.id for cell in notebook.cells].index("parameters")
    notebook.cells.insert(position + 1, new_code_cell(TINY))
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=500,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    with pytest.MonkeyPatch.context() as environment:
        # Neither settings nor kernels of the person who runs the tests.
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment.setenv(name, str(home / name.lower()))
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.setenv("PYTHONPATH", str(REPOSITORY))
        environment.delenv("XRAY_DATA", raising=False)
        environment.setenv("XRAY_NOTEBOOK_SIZE", "16")
        environment.setenv("XRAY_NOTEBOOK_MINUTES", "5")
        environment.setenv("XRAY_NOTEBOOK_OUT", str(folder))
        client.execute()
    return notebook


_PROGRESS = re.compile(r"[^:]+: [\d,]+.*\b(s|min|h|left)\b.*")


def outputs(notebook: Any, cell: str) -> str:
    """What a cell shows, as HTML and text."""
    (found,) = (each for each in notebook.cells if each.id == cell)
    shown = [
        output.get("text", "") or output.get("data", {}).get("text/html", "")
        for output in found.outputs
    ]
    return "\n".join(shown)


def test_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_every_cell_runs_in_order(executed: Any) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs)
        said = "".join(output["text"] for output in cell.outputs if output.get("name") == "stderr")
        # On a slow machine lines of progress, and nothing else.
        assert all(_PROGRESS.fullmatch(line) for line in said.splitlines()), said


@pytest.mark.parametrize("cell", FIGURES)
def test_figures_of_the_theory_are_shown(executed: Any, cell: str) -> None:
    titles = re.findall(r'<svg [^>]*aria-label="([^"]+)"', outputs(executed, cell))
    assert len(titles) == len(FIGURES[cell])
    for title, expected in zip(titles, FIGURES[cell], strict=True):
        assert title.replace("&#x27;", "'").startswith(expected)


def test_every_model_is_trained_and_shown(executed: Any, folder: Path) -> None:
    models = json.loads((folder / "comparison.json").read_text())["models"]
    assert [model["preset"] for model in models] == list(GAN_PRESETS)
    ticks = re.findall(r"^([\w-]+), seed 0: .* KID", outputs(executed, "train"), re.MULTILINE)
    assert ticks == list(GAN_PRESETS)
    grids = re.findall(r'<img src="data:image/png;base64,\w[^"]+" alt="Samples of ([\w-]+)"',
                       outputs(executed, "grids"))  # fmt: skip
    assert grids == list(GAN_PRESETS)


def test_curves_hold_every_tick(executed: Any) -> None:
    charts = outputs(executed, "curves").split("<svg")[1:]
    assert len(charts) == 2
    for chart in charts:
        assert chart.count("<circle") == len(GAN_PRESETS)


def test_table_has_a_row_for_each_model(executed: Any) -> None:
    (table,) = (
        output.data["text/markdown"]
        for cell in executed.cells
        if cell.id == "table"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    )
    for preset in GAN_PRESETS:
        assert re.search(rf"^\| *{preset} *\|", table, re.MULTILINE), preset
