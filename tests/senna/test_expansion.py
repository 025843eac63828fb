import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.expansion import expand_marks

MARK = -200


def expand_twin(rows: list[list[int]], tokens: int) -> tuple[list[list[int]], list[list[bool]]]:
    source = [[i for i, v in enumerate(row) for _ in range(tokens if v == MARK else 1)] for row in rows]
    return source, [[row[i] == MARK for i in columns] for row, columns in zip(rows, source, strict=True)]


@pytest.mark.parametrize(
    "rows",
    [[[1, MARK, 5, MARK, 7]], [[0, 0, 1, MARK, MARK, 4], [1, MARK, 5, 6, MARK, 7]], [[MARK]], [[1, 2, 3]]],
)
def test_equals_the_loop(rows):
    expansion = expand_marks(torch.tensor(rows), MARK, 4)
    source, mask = expand_twin(rows, 4)
    assert expansion.source.tolist() == source
    assert expansion.visual_mask.tolist() == mask
    assert expansion.length == len(source[0])
    assert expansion.spread(torch.tensor(rows)).tolist() == [[row[i] for i in columns] for row, columns in zip(rows, source, strict=True)]


def test_rows_must_agree():
    with pytest.raises(SennaPruneError, match="1, 2"):
        expand_marks(torch.tensor([[1, MARK, MARK], [1, 2, MARK]]), MARK, 4)
