"""The colours of pictures: the same on a light and on a dark ground, and how far they stand out from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["COLOURS", "DARK", "GREY", "LIGHT", "Ground", "contrast", "ramp", "tint"]

#: One colour per forecast, oldest first: the first three are told apart with every kind of colour vision, and all have
#: a contrast of at least 3.5 on white and on black.
COLOURS = ("#d9660f", "#12997a", "#3a6fd8", "#cf5fa5")
#: Losses and learning rates are drawn half way between black and white.
GREY = "0.5"
#: Sequential map of model sizes, and the least contrast at which its colours are used.
_MAP, _LEAST_CONTRAST, _MAP_POINTS = "plasma", 3.0, 256


@dataclass(frozen=True)
class Ground:
    """What a picture is drawn on.

    Args:
        face: Colour of the ground.
        ink: Colour of words, axes and marks.
        grid: Colour of grid lines.
    """

    face: str
    ink: str
    grid: str


LIGHT = Ground(face="#ffffff", ink="#1f2328", grid="#e4e7eb")
DARK = Ground(face="#0d1117", ink="#e6edf3", grid="#272e37")

Colour = tuple[float, float, float, float]


def contrast(one: object, other: object) -> float:
    """Return the contrast of two colours, from 1 (none) to 21 (black on white).

    Source: Web Content Accessibility Guidelines 2.1, "contrast ratio" and "relative luminance".

    Args:
        one: A colour that matplotlib knows; how far it is transparent does not count.
        other: Another.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def tint(colour: str, face: Colour, strength: float = 0.3) -> Colour:
    """Return a colour thinned with the ground, opaque where that is: then bands that overlap do not mix.

    Args:
        colour: The colour.
        face: The ground, as red, green, blue and opacity.
        strength: Share of the colour [1].
    """
    from matplotlib.colors import to_rgb

    r, g, b = to_rgb(colour)
    if face[3] < 1.0:
        return r, g, b, strength
    mixed = [strength * over + (1.0 - strength) * under for over, under in zip((r, g, b), face, strict=False)]
    return mixed[0], mixed[1], mixed[2], 1.0


def ramp(n: int, face: object) -> list[Colour]:
    """Return colours of a sequential map that stand out from a ground, the first the closest to it.

    Args:
        n: How many.
        face: The ground.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    all_of_it = [to_rgba(colormaps[_MAP](x)) for x in np.linspace(0.0, 1.0, _MAP_POINTS)]
    seen = [colour for colour in all_of_it if contrast(colour, face) >= _LEAST_CONTRAST]
    if contrast(seen[0], face) > contrast(seen[-1], face):
        seen.reverse()
    places = np.linspace(0, len(seen) - 1, max(n, 2)).round().astype(int)[:n]
    return [seen[i] for i in places]


def _luminance(colour: object) -> float:
    from matplotlib.colors import to_rgb

    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]  # type: ignore[arg-type]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
