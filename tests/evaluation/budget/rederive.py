"""The certificate of a run again, from its answers and its stated rules alone: shares no code with the package."""

import json
import sqlite3
from math import sqrt

import numpy as np
from scipy.stats import beta, binom, multivariate_normal, norm, t

BRAKES, KEYS = ("STOP", "DECELERATE"), ("margin", "safety", "stops", "certify")


def side(path):
    return path.split("_")[0] if path.startswith(("LEFT_", "RIGHT_")) else None


def rederive(folder):
    """(smallest safe budget or None, {budget: (z, scenes, dangerous)}) of a run directory."""
    with open(f"{folder}/budget.json") as file:
        stated = json.load(file)
    rows = sqlite3.connect(f"{folder}/answers.sqlite")
    labels = {q: (label.strip().split(", "), scene) for q, label, scene in rows.execute("SELECT question, label, scene FROM questions")}
    said = {(q, s): a.strip().split(", ") for q, s, a in rows.execute("SELECT question, setting, answer FROM answers")}
    margin, safety, stops, certify = (stated[a][b] for a, b in zip(("margins",) * 2 + ("halves",) * 2, KEYS, strict=True))
    safe, seen = None, {}
    for step in stated["sequence"]:
        z_max, best_safety = -np.inf, 1.0
        for index, looked in enumerate(step["looks"]):
            scenes, sums, count, danger = certify[: stops[index]], [], [], set()
            for scene in scenes:
                mine = [(label, said[q, "unpruned"], said[q, step["setting"]]) for q, (label, s) in labels.items() if s == scene]
                sums.append([sum(u == x and p != x for x, u, p in mine), sum(u != x and p == x for x, u, p in mine)])
                count.append(len(mine))
                for x, u, p in mine:
                    crossed = side(x[1]) and side(p[1]) not in (None, side(x[1])) and side(u[1]) in (None, side(x[1]))
                    missed = x[0] in BRAKES and u[0] in BRAKES and p[0] not in BRAKES
                    danger |= {scene} if u != p and p != x and (missed or crossed) else set()
            (lost, gained), n, S, counts = np.sum(sums, 0), sum(count), len(scenes), np.array(count)
            d, mean = np.diff(sums).ravel(), (gained - lost) / n
            iid, hit = lost + gained - n * mean**2, int((np.sum(sums, 1) > 0).sum())
            ratio = S / (S - 1) * ((d - mean * counts) ** 2).sum() / iid if iid > 0 else 1
            prior = 1 + ((counts**2).sum() / n - 1) * 0.2
            deff = max(1, (hit * ratio + 3 * prior) / (hit + 3)) * (t.ppf(0.95, S - 1) / norm.ppf(0.95)) ** 2
            b, c, N, D = lost / deff, gained / deff, n / deff, -margin
            B = -c - b + (2 * N - c + b) * D
            q = (sqrt(B * B + 8 * N * b * D * (1 - D)) - B) / (4 * N)
            z = (c - b - N * D) / sqrt(N * (2 * q + D * (1 - D)))
            assert abs(looked["z"] - z) < 1e-6 and looked["dangerous"] == len(danger)
            z_max = max(z_max, z - looked["bound"])
            best_safety = min(best_safety, binom.cdf(len(danger), S, safety) - norm.sf(looked["bound"]))
            seen[step["budget"]] = (z, S, len(danger))
            upper = beta.ppf(norm.cdf(looked["bound"]), len(danger) + 1, S - len(danger)) if len(danger) < S else 1
            assert abs(upper - looked["dangerous_upper"]) < 1e-9
        if z_max < 0 or best_safety > 0:
            break
        safe = step["budget"]
    return safe, seen


def crossing_probability(bounds, stops):
    """P(any look passes its bound) when nothing is true: what the bounds spend in all."""
    shares = np.array(stops) / stops[-1]
    covariance = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
    return 1 - multivariate_normal(cov=covariance).cdf(np.array(bounds))
