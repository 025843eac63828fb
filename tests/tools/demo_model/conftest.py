"""senna-mini's tokenizer, trained once for all tests of its trainer."""

import pytest

from demo_model.mini import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("mini") / "tokenizer.model"
    train_tokenizer(file)
    return file
