"""Whitening: points whose errors go together become points whose errors do not, at a cost that no setting changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Whitening"]

FloatArray = NDArray[np.float64]

#: Side of a tile. BLAS shares larger products out among threads, which at this size wait for each other for longer than
#: they compute: in OpenBLAS a product of up to 262 144 multiplications is of one thread.
_TILE = 40


class Whitening:
    r"""The root of a covariance, :math:`C = L L^T`, in tiles.

    Args:
        covariance: Positive definite, shape (n, n).

    Attributes:
        log_det: Logarithm of the determinant of L.

    Raises:
        LinAlgError: If the covariance is not positive definite.

    Example:
        >>> white = Whitening(np.array([[4.0, 0.0], [0.0, 0.25]]))
        >>> white.gram(np.array([[2.0], [1.0]])), white.log_det
        (array([[5.]]), 0.0)
    """

    def __init__(self, covariance: FloatArray) -> None:
        n_tiles = -(-len(covariance) // _TILE)
        padded = np.eye(n_tiles * _TILE)
        padded[: len(covariance), : len(covariance)] = covariance
        rest = padded.reshape(n_tiles, _TILE, n_tiles, _TILE).swapaxes(1, 2)
        self.log_det = 0.0
        self._columns: list[tuple[FloatArray, FloatArray]] = []  # inverse of the uppermost tile, tiles below it
        for _ in range(n_tiles):
            root = np.linalg.cholesky(rest[0, 0])
            inverse = np.linalg.inv(root)
            below = rest[1:, 0] @ inverse.T
            rest = rest[1:, 1:] - below[:, None] @ below.swapaxes(1, 2)
            self.log_det += float(np.log(np.diagonal(root)).sum())
            self._columns.append((inverse, below))

    def gram(self, values: FloatArray) -> FloatArray:
        r"""Return :math:`X^T C^{-1} X`.

        Args:
            values: X, shape (n, m).

        Returns:
            Shape (m, m).
        """
        n, m = values.shape
        rest = np.zeros((len(self._columns), _TILE, m))
        rest.reshape(-1, m)[:n] = values
        found = np.zeros((m, m))
        for inverse, below in self._columns:
            white = inverse @ rest[0]
            rest = rest[1:] - below @ white
            found += white.T @ white
        return found
