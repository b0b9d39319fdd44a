"""The notebook runs from top to bottom, at a size at which it takes a moment."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import ml

NOTEBOOK = Path(ml.__file__).parents[1] / "docs" / "gans.ipynb"
FIGURES = {
    "orbit": ["Gradient play on V(x, y) = xy around its Nash point"],
    "gradients": ["Size of the generator's gradient under a perfect opponent"],
    "drift": ["Divergences of P = N(0, 1²)", "Divergences of two uniform distributions"],
    "slopes": ["Slope of the critic on the way from the fakes to a real cluster"],
    "histograms": ["Weights of a critic: clipping", "Weights of a critic: gradient penalty"],
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after a run in a kernel of its own."""
    home = tmp_path_factory.mktemp("jupyter")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=100,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    with pytest.MonkeyPatch.context() as environment:
        # Neither settings nor kernels of the person who runs the tests.
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment.setenv(name, str(home / name.lower()))
        environment.setenv("OMP_NUM_THREADS", "1")
        client.execute()
    return notebook


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


@pytest.mark.timeout(120)
def test_every_cell_runs_in_order(executed: Any) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.id


@pytest.mark.parametrize("cell", FIGURES)
def test_figures_of_the_theory_are_shown(executed: Any, cell: str) -> None:
    titles = re.findall(r'<svg [^>]*aria-label="([^"]+)"', outputs(executed, cell))
    assert len(titles) == len(FIGURES[cell])
    for title, expected in zip(titles, FIGURES[cell], strict=True):
        assert title.replace("&#x27;", "'").startswith(expected)
