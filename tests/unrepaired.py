"""Tests that the move of every module into its feature left broken, each to be repaired.

They run and are reported as expected failures. Nothing may be added; repair one and take it out.
"""

UNREPAIRED = {
    "tests/app/core/test_content_store.py::test_two_that_restore_at_once_restore_every_file_once",
    "tests/app/test_fourth_class.py::test_real_tuberculosis_set_is_read_and_joined",
    "tests/e2e/test_data_pages.py::test_archive_is_sent_without_script",
    "tests/e2e/test_data_pages.py::test_clinician_reviews_a_image",
    "tests/e2e/test_data_pages.py::test_data_sets_are_shown_and_renamed",
    "tests/e2e/test_gallery_pages.py::test_no_page_of_the_gallery_is_hard_to_read",
    "tests/e2e/test_gallery_pages.py::test_two_images_of_a_class_are_blended",
    "tests/e2e/test_models_pages.py::test_shut_gate_opens_by_a_written_reason",
    "tests/e2e/test_runs_page.py",
    "tests/e2e/test_story.py",
    "tests/ml/data/test_leaks.py::test_real_images_that_are_left_do_not_leak",
    "tests/ml/data/test_versioning.py::test_a_real_data_set_is_frozen_in_seconds",
}


def is_unrepaired(node: str) -> bool:
    """Whether a test, by its id, or its file is listed."""
    name = node.partition("[")[0]
    return name in UNREPAIRED or name.partition("::")[0] in UNREPAIRED
