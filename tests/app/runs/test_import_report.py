"""What an import left out, as a table."""

from pathlib import Path

from app.runs.import_report import MOST_SHOWN, import_report


def test_images_are_counted_by_reason_and_listed_up_to_a_limit(tmp_path: Path) -> None:
    assert import_report(tmp_path) is None
    rows = [f"ward/{k}.png,{'near-duplicate' if k % 3 else 'unreadable'},x" for k in range(90)]
    (tmp_path / "left-out.csv").write_text("path,reason,detail\n" + "\n".join(rows) + "\n")
    (tmp_path / "left-out-reviewed.csv").write_text("path,reason,detail\n7,rotated,\n")
    found = import_report(tmp_path)
    assert found
    assert found.reasons == [("near-duplicate", 60), ("unreadable", 30), ("rotated", 1)]
    assert (found.total, len(found.images)) == (91, MOST_SHOWN)
    assert (found.images[0].path, found.images[0].reason) == ("ward/0.png", "unreadable")


def test_import_that_took_everything_has_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "left-out.csv").write_text("path,reason,detail\n")
    found = import_report(tmp_path)
    assert found
    assert (found.total, found.reasons, found.images) == (0, [], [])
