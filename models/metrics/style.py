"""Style accuracy: does a classifier that knows real dance only recognise which dance is being danced?

Multinomial logistic regression (L2, classes weighted alike) on 4-second windows; no network, so that it is trained in
a second, is the same everywhere, and can be explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from models.metrics.geometric import geometric_clip_features
from models.metrics.kinetic import CLIP_S, clip_features, clip_starts

Floats = NDArray[np.float64]

_SMALLEST_ENERGY = 1e-3
"""Added before the logarithm of kinetic features: below it is the noise of capture."""
_PENALTIES = (0.001, 0.01, 0.1, 1.0)
_HIPS_AND_SHOULDERS = ((1, 2), (16, 17))
_LIMIT = 5.0
"""Deviations: what real dance never showed is not evidence for a style."""


def style_features(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return what the classifier sees of each 4-second window (n, 248) of a motion (T, 24, 3).

    Logarithms of the kinetic features (72), geometric features (32), and mean and deviation of the joints in the
    dancer's own frame (72 each: about the root, turned to face one way; height over the floor kept).
    """
    p = np.asarray(positions, np.float64)
    local = _in_own_frame(p)
    size = round(CLIP_S * rate_hz)
    poses = [
        np.concatenate([local[s : s + size].mean(axis=0).ravel(), local[s : s + size].std(axis=0).ravel()])
        for s in clip_starts(len(p), rate_hz)
    ]
    kinetic = np.log(clip_features(p, rate_hz) + _SMALLEST_ENERGY)
    return np.concatenate([kinetic, geometric_clip_features(p, rate_hz), np.array(poses)], axis=1)


def _in_own_frame(p: Floats) -> Floats:
    across = sum(p[:, left] - p[:, right] for left, right in _HIPS_AND_SHOULDERS) * [1.0, 0.0, 1.0]
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
    forward = np.cross(across, [0.0, 1.0, 0.0])
    centred = p - p[:, :1] * [1.0, 0.0, 1.0]
    return np.stack(
        [(centred * across[:, None]).sum(axis=-1), centred[..., 1], (centred * forward[:, None]).sum(axis=-1)], axis=-1
    )


@dataclass(frozen=True)
class StyleClassifier:
    """A fitted classifier.

    Attributes:
        styles: (k,) the styles it tells apart, as numbers.
        mean, deviation: (d,) of the features.
        weights: (d + 1, k); the last row is the offset.
        penalty: of the squared weights, chosen on held-out dances.
        held_out_accuracy: share of held-out real windows recognised, mean over styles.
    """

    styles: NDArray[np.int64]
    mean: Floats
    deviation: Floats
    weights: Floats
    penalty: float
    held_out_accuracy: float

    @staticmethod
    def fit(
        features: ArrayLike, styles: Sequence[int], held_out: ArrayLike, held_out_styles: Sequence[int]
    ) -> StyleClassifier:
        """Fit to real training windows (n, d); the penalty is the one that does best on held-out real windows."""
        x, y = np.asarray(features, np.float64), np.asarray(styles)
        mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        known = np.unique(y)
        best: StyleClassifier | None = None
        for penalty in _PENALTIES:
            weights = _fit(_design(x, mean, deviation), np.searchsorted(known, y), len(known), penalty)
            fitted = StyleClassifier(known, mean, deviation, weights, penalty, 0.0)
            accuracy = fitted.accuracy(held_out, held_out_styles)
            if best is None or accuracy > best.held_out_accuracy:
                best = StyleClassifier(known, mean, deviation, weights, penalty, accuracy)
        assert best is not None
        return best

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """Return the likeliest style of each window (n, d)."""
        scores = _design(np.asarray(features, np.float64), self.mean, self.deviation) @ self.weights
        return np.asarray(self.styles[np.argmax(scores, axis=1)])

    def accuracy(self, features: ArrayLike, styles: Sequence[int]) -> float:
        """Return the share of windows recognised, mean over the styles there are (a rare style counts as much)."""
        wanted = np.asarray(styles)
        right = self.predict(features) == wanted
        return float(np.mean([right[wanted == style].mean() for style in np.unique(wanted)]))


def _design(x: Floats, mean: Floats, deviation: Floats) -> Floats:
    return np.concatenate([np.clip((x - mean) / deviation, -_LIMIT, _LIMIT), np.ones((len(x), 1))], axis=1)


def _fit(x: Floats, y: NDArray[np.int64], classes: int, penalty: float) -> Floats:
    one_hot = np.eye(classes)[y]
    weight = 1.0 / np.maximum(np.bincount(y, minlength=classes), 1)[y] / classes

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(x.shape[1], classes)
        scores = x @ w
        log_p = scores - logsumexp(scores, axis=1, keepdims=True)
        error = weight[:, None] * (np.exp(log_p) - one_hot)
        shrink = np.concatenate([w[:-1], np.zeros((1, classes))])
        value = -float((weight[:, None] * one_hot * log_p).sum()) + 0.5 * penalty * float((shrink**2).sum())
        return value, (x.T @ error + penalty * shrink).ravel()

    found = minimize(loss, np.zeros(x.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(found.x.reshape(x.shape[1], classes))
