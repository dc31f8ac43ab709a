"""Exceptions and warnings of the package.

Wrong arguments raise the built-in ``ValueError`` or ``TypeError``. A fit that fails is a verdict, not an exception;
only who asks for a usable result and does not get one sees a `FitError`.
"""

from __future__ import annotations

import sys
import warnings


class LightningScalingError(Exception):
    """Base class of every exception defined by this package.

    Example:
        >>> issubclass(FitError, LightningScalingError)
        True
    """


class FitError(LightningScalingError):
    """A fit gave no usable result although one was required.

    Args:
        message: What was expected, what was found, what to do.
        result: The result that could not be used, for inspection.

    Example:
        >>> FitError("Expected at least 10 windows, got 3, so train on.", result=3).result
        3
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class StoreError(LightningScalingError):
    """A store of runs cannot be reached, or a file in it must not be touched.

    Example:
        >>> raise StoreError("Expected a folder, got a file, so name a folder.")
        Traceback (most recent call last):
        lightning_scaling.errors.StoreError: Expected a folder, got a file, so name a folder.
    """


class ScalingWarning(UserWarning):
    """Category of every warning of this package, so that all of them can be filtered at once.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("ignore", ScalingWarning)
    """


def say_warning(message: str) -> None:
    """Warn; where warnings are made errors, print instead, because no hook may raise once training has begun."""
    try:
        warnings.warn(message, ScalingWarning, stacklevel=3)
    except ScalingWarning:
        print(f"ScalingWarning: {message}", file=sys.stderr)
