"""The light that explains pixels of unknown albedo: robust least squares on the logarithm, many candidate sources at once.

log I = log a_s - log pi + log(X theta + B): what a pixel shows is its segment's albedo times the irradiance, which is linear
in the unknown light theta. The albedos are eliminated by centring each segment, so only differences within segments count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS = 8
SWEEPS = 12
OUTLIER = 2.0
"""Residuals beyond this many standard deviations count less and less (Cauchy)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """P pixels of K segments.

    Attributes:
        log: Logarithm of what they show, (P,).
        bounce: Irradiance that is known already, (P,).
        member: 1 where a pixel belongs to a segment, (P, K).
        sigma: Standard deviation of each pixel's logarithm, (P,).
        gauge: Expected mean of the logarithm of the irradiance of all pixels: only light that bounces tells of the albedos' scale.
        gauge_sigma: Its standard deviation.
    """

    log: np.ndarray
    bounce: np.ndarray
    member: np.ndarray
    sigma: np.ndarray
    gauge: float
    gauge_sigma: float


@dataclass(frozen=True, eq=False)
class Fits:
    """C fits.

    Attributes:
        theta: Light, (C, L), not negative.
        loss: How badly it explains the pixels, (C,), priors included.
        irradiance: What each pixel receives, (C, P).
        weight: How far each pixel was believed, (C, P).
    """

    theta: np.ndarray
    loss: np.ndarray
    irradiance: np.ndarray
    weight: np.ndarray


def fit_lights(
    evidence: Evidence, shared: np.ndarray, own: np.ndarray, prior: np.ndarray, prior_sigma: np.ndarray
) -> Fits:
    """The light that explains the pixels best, for each of C sets of columns.

    Args:
        evidence: The pixels.
        shared: Columns that all fits have, (P, S).
        own: Columns of each fit, (C, P, M).
        prior: Expected theta, (S + M,).
        prior_sigma: Its standard deviation, (S + M,).
    """
    count = len(own)
    X = np.concatenate([np.broadcast_to(shared, (count, *shared.shape)), own], -1)
    theta = np.broadcast_to(np.maximum(prior, 1e-4), (count, X.shape[-1])).copy()
    segment = evidence.member.argmax(1)
    floor = 1e-3 * np.exp(evidence.gauge)
    total = len(evidence.log)
    E = np.maximum(X @ theta[..., None], 0)[..., 0] + evidence.bounce + floor
    weight = np.ones((count, total)) / evidence.sigma**2
    for step in range(ROUNDS):
        if step:
            residual = _centred(evidence.log - np.log(E), weight, evidence.member, segment)
            weight = 1 / (1 + (residual / evidence.sigma / OUTLIER) ** 2) / evidence.sigma**2
        y = evidence.log - np.log(E)
        residual = _centred(y, weight, evidence.member, segment)
        J = X / E[..., None]
        mean_J = J.mean(1)
        off = np.log(E).mean(1) - evidence.gauge
        W = np.stack([evidence.member.T * w for w in weight])
        mass = np.maximum(W.sum(-1), 1e-9)
        J = J - ((W @ J) / mass[..., None])[:, segment]
        H = np.swapaxes(J * weight[..., None], 1, 2) @ J
        g = (np.swapaxes(J, 1, 2) @ (weight * residual)[..., None])[..., 0]
        H += mean_J[:, :, None] * mean_J[:, None] / evidence.gauge_sigma**2
        g -= mean_J * off[:, None] / evidence.gauge_sigma**2
        H += np.diag(1 / prior_sigma**2)
        g -= (theta - prior) / prior_sigma**2
        theta = _step(theta, H, g)
        E_new = (X @ theta[..., None])[..., 0] + evidence.bounce + floor
        E = np.maximum(E_new, 0.2 * E)
    E = (X @ theta[..., None])[..., 0] + evidence.bounce + floor
    residual = _centred(evidence.log - np.log(E), weight, evidence.member, segment)
    loss = (OUTLIER**2 / 2 * np.log1p((residual / evidence.sigma / OUTLIER) ** 2)).sum(1)
    loss += 0.5 * (((theta - prior) / prior_sigma) ** 2).sum(1)
    loss += 0.5 * ((np.log(E).mean(1) - evidence.gauge) / evidence.gauge_sigma) ** 2
    return Fits(theta, loss, E, weight)


def segment_logs(evidence: Evidence, irradiance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Logarithm of each segment's albedo over pi, (K,), under the irradiance (P,)."""
    W = evidence.member * weight[:, None]
    return (W.T @ (evidence.log - np.log(irradiance))) / np.maximum(W.sum(0), 1e-9)


def _centred(values: np.ndarray, weight: np.ndarray, member: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Values (C, P) less the weighted mean of their segment."""
    mean = ((values * weight) @ member) / np.maximum(weight @ member, 1e-9)
    return values - mean[:, segment]


def _step(theta: np.ndarray, H: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Minimum of the quadratic over theta that are not negative, by coordinate descent; (C, L)."""
    diagonal = np.einsum("cll->cl", H) + 1e-9
    new, slope = theta.copy(), g.copy()
    for _ in range(SWEEPS):
        for i in range(theta.shape[1]):
            value = np.maximum(new[:, i] + slope[:, i] / diagonal[:, i], 0.0)
            slope -= H[:, :, i] * (value - new[:, i])[:, None]
            new[:, i] = value
    return new
