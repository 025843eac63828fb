"""What becomes of dropped tokens, against slow clustering."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from senna_autoprune.pruning.parts import revival


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 800), st.data())
def test_split_for_merge_meets_the_target(current, data):
    target = data.draw(st.integers(1, current))
    kept, merged = revival.split_for_merge(current, target)
    assert kept + merged == target
    assert merged in (0, revival.cluster_count(current - kept))


def slow_density_peaks(tokens, clusters, noise):
    count, width = tokens.shape
    distance = [[math.dist(a.tolist(), b.tolist()) / width**0.5 for b in tokens] for a in tokens]
    density = [math.exp(-sum(d * d for d in sorted(distance[i])[:clusters]) / clusters) + float(noise[i]) * 1e-6 for i in range(count)]
    furthest = max(max(row) for row in distance)
    parent = [min([distance[i][j] for j in range(count) if density[j] > density[i]], default=furthest) for i in range(count)]
    rank = sorted((parent[i] * density[i] for i in range(count)), reverse=True)
    assume(all(a - b > 1e-5 for a, b in pairwise(rank)) and all(b - a > 3e-7 for a, b in pairwise(sorted(density))))  # float32's limits
    centres = sorted(range(count), key=lambda i: -parent[i] * density[i])[:clusters]
    members = {centre: [centre] for centre in centres}
    for i in range(count):
        if i not in members:
            members[min(centres, key=lambda centre: distance[centre][i])].append(i)
    return torch.stack([tokens[members[centre]].sum(0) / (len(members[centre]) + 1e-6) for centre in centres])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 25), st.integers(1, 6), st.integers(0, 10**6))
def test_density_peaks_equal_their_twin(count, clusters, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens, noise = torch.randn(count, 6, generator=generator), torch.rand(count, generator=generator)
    clusters = min(clusters, count)
    merged = revival.density_peaks(tokens, clusters, noise).merged
    assert torch.allclose(merged, slow_density_peaks(tokens, clusters, noise), atol=1e-5)
