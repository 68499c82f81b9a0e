"""People who do not exist: the parameters of a face and the maps that follow from them.

Face-plane coordinates are (u, v): u to the picture's right, v down, in units of half the head's height, (0, 0) the middle
of the head seen from the front. The eyes lie near v = 0, the chin at v = 1.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

MAP_SIZE = 256
MAP_REACH = 1.1  # the maps cover u, v in [-1.1, 1.1]

SKIN = np.array([[0.93, 0.76, 0.66], [0.87, 0.68, 0.56], [0.78, 0.58, 0.45], [0.64, 0.45, 0.34], [0.50, 0.34, 0.25]])
HAIR = np.array(
    [
        [0.10, 0.08, 0.07],
        [0.24, 0.15, 0.10],
        [0.42, 0.27, 0.15],
        [0.70, 0.54, 0.32],
        [0.55, 0.24, 0.12],
        [0.55, 0.54, 0.53],
    ]
)
IRIS = np.array([[0.25, 0.15, 0.08], [0.38, 0.24, 0.12], [0.30, 0.42, 0.52], [0.30, 0.42, 0.30], [0.45, 0.47, 0.50]])
SHIRT = np.array([[0.16, 0.22, 0.36], [0.55, 0.20, 0.20], [0.22, 0.36, 0.28], [0.75, 0.74, 0.70], [0.18, 0.18, 0.20]])


@dataclass(frozen=True)
class Identity:
    """One invented person. Lengths in half head heights, colours RGB in [0, 1]."""

    width: float
    jaw: float
    chin: float
    eye_distance: float
    eye_level: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_radius: float
    brow_level: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    nose_base: float
    nose_width: float
    nose_bridge: float
    mouth_level: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    hairline: float
    hair_curve: float
    hair_part: float
    hair_volume: float
    hair_length: float
    neck_width: float
    beard: float
    freckles: float
    glasses: bool
    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    shirt: tuple[float, float, float]
    moles: tuple[tuple[float, float, float], ...]
    texture_seed: int


@dataclass(frozen=True)
class FaceMaps:
    """What stays fixed on a face, as (MAP_SIZE, MAP_SIZE, 3) float32 maps over (u, v).

    `albedo`: RGB. `relief`: slope of the surface along u, along v, and the openness to the sky (0 covered, 1 open).
    `strands`: hair brightness in polar coordinates around the crown (one channel).
    """

    albedo: np.ndarray
    relief: np.ndarray
    strands: np.ndarray


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a person from `rng`; the same generator state gives the same person."""

    def around(middle: float, spread: float) -> float:
        return float(middle + spread * rng.uniform(-1, 1))

    def colour(palette: np.ndarray, spread: float) -> tuple[float, float, float]:
        # A mixture of two neighbours in the palette, so that no two people share a colour.
        first = int(rng.integers(len(palette)))
        second = min(first + 1, len(palette) - 1)
        share = rng.uniform(0, 0.8)
        mixed = (1 - share) * palette[first] + share * palette[second]
        red, green, blue = np.clip(mixed * (1 + spread * rng.uniform(-1, 1)) + 0.02 * rng.uniform(-1, 1, 3), 0.03, 0.97)
        return float(red), float(green), float(blue)

    skin = colour(SKIN, 0.05)
    lip_tint = np.array([0.95, 0.58, 0.60]) + 0.08 * rng.uniform(-1, 1, 3)
    red, green, blue = np.clip(np.array(skin) * lip_tint, 0, 1)
    moles = tuple(
        (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.85)), float(rng.uniform(0.012, 0.024)))
        for _ in range(int(rng.integers(0, 4)))
    )
    bearded = rng.random() < 0.3
    return Identity(
        width=around(0.75, 0.05), jaw=around(0.16, 0.10), chin=around(2.3, 0.35),
        eye_distance=around(0.30, 0.028), eye_level=around(-0.02, 0.03), eye_width=around(0.145, 0.018),
        eye_height=around(0.072, 0.014), eye_tilt=around(-0.04, 0.10), iris_radius=around(0.062, 0.006),
        brow_level=around(-0.215, 0.035), brow_thickness=around(0.036, 0.013), brow_arch=around(0.045, 0.025),
        brow_tilt=around(0.0, 0.03), nose_base=around(0.36, 0.035), nose_width=around(0.135, 0.028),
        nose_bridge=around(0.055, 0.015), mouth_level=around(0.595, 0.03), mouth_width=around(0.245, 0.032),
        upper_lip=around(0.042, 0.014), lower_lip=around(0.060, 0.018), hairline=around(-0.60, 0.08),
        hair_curve=around(0.75, 0.35), hair_part=around(0.0, 0.35), hair_volume=around(0.10, 0.05),
        hair_length=float(rng.choice([0.0, 0.15, 0.9, 1.3])) + around(0.0, 0.08), neck_width=around(0.47, 0.06),
        beard=float(rng.uniform(0.25, 0.75)) if bearded else 0.0, freckles=float(max(0.0, rng.uniform(-0.6, 0.8))),
        glasses=bool(rng.random() < 0.12), skin=skin, lips=(float(red), float(green), float(blue)),
        hair=colour(HAIR, 0.15), iris=colour(IRIS, 0.1), shirt=colour(SHIRT, 0.2), moles=moles,
        texture_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def map_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return u and v at the maps' pixels, each (MAP_SIZE, MAP_SIZE) float32."""
    axis = np.linspace(-MAP_REACH, MAP_REACH, MAP_SIZE, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    return u, v


def hill(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """A Gaussian hill of height 1 at `centre` with standard deviations `size`."""
    return np.exp(-0.5 * (((u - centre[0]) / size[0]) ** 2 + ((v - centre[1]) / size[1]) ** 2))


@lru_cache(maxsize=16)
def face_maps(person: Identity) -> FaceMaps:
    """Paint the fixed maps of `person` (about 30 ms; the last few people are remembered)."""
    rng = np.random.default_rng(person.texture_seed)
    u, v = map_grid()
    height, openness = _relief(person, u, v)
    slope_v, slope_u = np.gradient(height, u[0, 1] - u[0, 0])
    relief = np.dstack([slope_u, slope_v, openness]).astype(np.float32)
    strands = cv2.GaussianBlur(rng.normal(size=(MAP_SIZE, MAP_SIZE)).astype(np.float32), (0, 0), 0.8)
    strands = cv2.GaussianBlur(strands, (0, 0), sigmaX=0.01, sigmaY=14)
    strands /= strands.std()
    return FaceMaps(_albedo(person, u, v, rng), relief, strands)


def _relief(person: Identity, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the features above the egg of the head, and the sky's share seen from each point."""
    side = np.abs(u)
    base, wing = person.nose_base, person.nose_width
    bridge = np.exp(-0.5 * (u / (person.nose_bridge + 0.05 * np.clip(v / base, 0, 1))) ** 2)
    bridge = bridge / (1 + np.exp(-(v + 0.12) / 0.05)) / (1 + np.exp((v - base + 0.02) / 0.025))
    height = 0.13 * bridge * (0.45 + 0.55 * np.clip(v / base + 0.2, 0, 1))
    height += 0.10 * hill(u, v, (0, base - 0.06), (0.07, 0.06)) + 0.05 * hill(
        side, v, (wing * 0.8, base - 0.03), (0.04, 0.04)
    )
    height -= 0.060 * hill(side, v, (person.eye_distance, person.eye_level), (0.15, 0.085))
    height += 0.045 * hill(side, v, (person.eye_distance, person.brow_level + 0.02), (0.17, 0.06))
    height += 0.060 * hill(side, v, (0.42, 0.30), (0.16, 0.15)) + 0.05 * hill(u, v, (0, 0.88), (0.14, 0.09))
    height += 0.035 * hill(u, v, (0, person.mouth_level), (0.22, 0.10)) - 0.02 * hill(
        u, v, (0, base + 0.1), (0.03, 0.06)
    )
    openness = 1 - 0.45 * hill(side, v, (person.eye_distance * 0.93, person.eye_level - 0.05), (0.15, 0.075))
    openness -= 0.40 * hill(u, v, (0, base + 0.035), (wing * 0.85, 0.035))
    openness -= 0.22 * hill(side, v, (wing + 0.02, base - 0.02), (0.022, 0.05))
    openness -= 0.25 * hill(u, v, (0, person.mouth_level + 0.15), (0.15, 0.035))
    openness -= 0.15 * hill(side, v, (person.nose_bridge + 0.06, 0.02), (0.04, 0.10))
    return height, np.clip(openness, 0.15, 1)


def _albedo(person: Identity, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Skin with blush, blotches, pores, freckles, moles, nostrils and beard, RGB."""

    def noise(sigma: float) -> np.ndarray:
        field = cv2.GaussianBlur(rng.normal(size=u.shape).astype(np.float32), (0, 0), sigma)
        return field / field.std()

    side = np.abs(u)
    skin = np.array(person.skin, np.float32)
    shade = 1 + 0.020 * noise(14) + 0.016 * noise(5) + 0.026 * noise(1.1)
    albedo = skin * shade[..., None]
    blush = hill(side, v, (0.40, 0.33), (0.17, 0.14)) + 0.8 * hill(u, v, (0, person.nose_base - 0.05), (0.10, 0.10))
    albedo *= 1 - (0.10 * blush)[..., None] * np.array([0.1, 1.0, 0.9], np.float32)
    if person.freckles:
        spots = np.clip(noise(1.6) - 1.3, 0, 1) * hill(u, v, (0, 0.25), (0.40, 0.16)) * person.freckles
        albedo *= 1 - (0.45 * spots)[..., None] * np.array([0.6, 1.0, 1.1], np.float32)
    for mole_u, mole_v, size in person.moles:
        spot = 1 / (1 + np.exp(np.clip((np.hypot(u - mole_u, v - mole_v) - size) / 0.004, -60, 60)))
        albedo *= 1 - (0.72 * spot)[..., None]
    nostril = hill(side, v, (person.nose_width * 0.50, person.nose_base + 0.012), (0.032, 0.017))
    albedo *= 1 - (0.75 * np.clip(1.3 * nostril, 0, 1))[..., None]
    if person.beard:
        lower = 1 / (1 + np.exp(-(v - 0.52 - 0.25 * np.cos(3.2 * u)) / 0.05))
        moustache = hill(u, v, (0, (person.nose_base + person.mouth_level) / 2 + 0.015), (0.17, 0.045))
        cover = np.clip(np.maximum(lower, moustache), 0, 1) * person.beard * np.clip(0.85 + 0.22 * noise(0.9), 0, 1)
        albedo += (cover * 0.85)[..., None] * (0.9 * np.array(person.hair, np.float32) - albedo)
    return np.clip(albedo, 0, 1).astype(np.float32)
