"""What is made with embedded files says so."""

from senna_autoprune import demo
from senna_autoprune.demo import LABEL, label_of


def test_label_of_embedded_and_other_files(tmp_path):
    found = demo.embedded()
    assert found is not None
    assert label_of(str(found.model_dir), "/data/qa.json") == LABEL
    assert label_of(tmp_path, found.questions_file) == LABEL
    assert label_of(tmp_path, None) is None
