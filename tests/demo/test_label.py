"""What is made with embedded files says so."""

from senna_autoprune import demo
from senna_autoprune.demo import LABEL, label_of, label_of_run
from senna_autoprune.nuscenes.questions_file import file_sha256


def test_label_of_embedded_and_other_files(tmp_path):
    found = demo.embedded()
    assert found is not None
    assert label_of(str(found.model_dir), "/data/qa.json") == LABEL
    assert label_of(tmp_path, found.questions_file) == LABEL
    assert label_of(tmp_path, None) is None
    assert label_of("a\0b", "x" * 10_000) is None  # of a config.yaml by strangers


def test_label_of_a_run_wherever_the_package_was():
    found = demo.embedded()
    assert found is not None
    digest = file_sha256(found.questions_file)
    assert label_of_run({"places": {"model": str(found.model_dir), "questions": "/data/qa.json"}}) == LABEL
    assert label_of_run({"places": {"model": "/m", "questions": "/q", "images_root": str(found.dataroot)}}) == LABEL
    assert label_of_run({"places": {"model": "/other/copy"}, "identity": {"questions_sha256": digest}}) == LABEL
    assert label_of_run({"places": {"model": "/m", "questions": "/q"}, "identity": {"questions_sha256": "0" * 64}}) is None
    assert label_of_run({}) is None
