"""Files in a folder, by names that are not trusted."""

from pathlib import Path

import pytest

from app.core.errors import NotFound
from app.core.safe_files import file_in, path_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.png").touch()
    (tmp_path / "secret.txt").touch()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner.png").symlink_to(folder / "images" / "1.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def test_file_is_found(folder: Path) -> None:
    assert file_in(folder, "images/1.png") == folder.resolve() / "images" / "1.png"
    assert file_in(folder, "images/./1.png") == file_in(folder, "images//1.png")


def test_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    assert file_in(tmp_path / "linked", "images/1.png") == file_in(folder, "images/1.png")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret.txt",
        "images/../../secret.txt",
        "images/../images/1.png",
        "/etc/passwd",
        "link.txt",
        "inner.png",
        "up/secret.txt",
        "up/missing.txt",
        "loop",
        "loop/1.png",
        "a\0b",
        "a" * 5000,
    ],
)
def test_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(NotFound, match=r"no longer stored\."):
        file_in(folder, name)


def test_absolute_name_is_refused_even_where_it_leads_inside(folder: Path) -> None:
    with pytest.raises(NotFound):
        file_in(folder, str(folder.resolve() / "images" / "1.png"))


def test_missing_file_has_a_path_and_cannot_be_found(folder: Path) -> None:
    assert path_in(folder, "thumbnails/1.jpg") == folder.resolve() / "thumbnails" / "1.jpg"
    with pytest.raises(NotFound, match="There is no thumbnail"):
        file_in(folder, "thumbnails/1.jpg", "There is no thumbnail.")


def test_folder_is_no_file(folder: Path) -> None:
    with pytest.raises(NotFound):
        file_in(folder, "images")
