"""The moving parts of a face: eyes, brows, mouth, folds and glasses, painted over the skin."""

import numpy as np

from preprocessing.demo.identity import Identity, hill
from preprocessing.demo.motion import Expression
from preprocessing.demo.surface import Surface

EYE_WHITE = np.array([0.90, 0.88, 0.86], np.float32)
MOUTH_DARK = np.array([0.20, 0.07, 0.07], np.float32)
TEETH = np.array([0.88, 0.86, 0.80], np.float32)


def paint(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Lay `colour` ((3,) or (h, w, 3)) over `picture` (h, w, 3) with opacity `alpha` (h, w), in place."""
    picture += alpha[..., None] * (colour - picture)


def paint_features(
    albedo: np.ndarray, seen: Surface, person: Identity, face: Expression, grain: np.ndarray
) -> np.ndarray:
    """Paint all moving features on `albedo` (h, w, 3) in place; return the gloss (h, w) they add when lit.

    `grain` (h, w): unit-variance noise fixed to the skin, for the hairs of the brows.
    """
    gloss = np.zeros(seen.u.shape, np.float32)
    _folds(albedo, seen, person, face)
    for side in (-1, 1):
        _eye(albedo, gloss, seen, person, face, side)
        _brow(albedo, seen, person, face, side, grain)
    _mouth(albedo, gloss, seen, person, face)
    if person.glasses:
        _glasses(albedo, seen, person)
    return gloss


def _eye(albedo: np.ndarray, gloss: np.ndarray, seen: Surface, person: Identity, face: Expression, side: int) -> None:
    rows, columns = _window(seen, side * person.eye_distance, person.eye_level, 2.0 * person.eye_width)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    patch, shine, pixel = albedo[rows, columns], gloss[rows, columns], seen.pixel
    along = (seen.u[rows, columns] - side * person.eye_distance) * side  # grows towards the temple
    down = seen.v[rows, columns] - person.eye_level + person.eye_tilt * along
    t = np.clip(along / person.eye_width, -1.3, 1.3)
    arch = np.clip(1 - t**2, -0.7, 1)
    low = 0.42 * person.eye_height * arch
    high = low * 0.8 * (1 - face.eye_open) - person.eye_height * arch * (1 - 0.12 * t) * face.eye_open
    inside = np.clip(0.5 + np.minimum(down - high, low - down) / (1.4 * pixel), 0, 1) * (np.abs(t) < 1)
    lid_shadow = np.clip((down - high) / (0.7 * person.eye_height), 0, 1)
    paint(patch, EYE_WHITE * (0.62 + 0.38 * lid_shadow)[..., None], inside)
    iris_u = along - 0.30 * person.eye_width * face.gaze_x * side
    iris_v = down + 0.12 * person.eye_height - 0.25 * person.eye_height * face.gaze_y
    radius = np.hypot(iris_u, iris_v)
    iris = np.array(person.iris, np.float32)
    rim = np.clip(radius / person.iris_radius, 0, 1) ** 4
    tinted = iris * ((1.25 - 0.75 * rim) * (0.65 + 0.35 * lid_shadow))[..., None]
    paint(patch, tinted, inside * np.clip(0.5 + (person.iris_radius - radius) / (1.5 * pixel), 0, 1))
    paint(patch, np.float32(0.03), inside * np.clip(0.5 + (0.42 * person.iris_radius - radius) / (1.5 * pixel), 0, 1))
    glint = np.hypot(iris_u * side + 0.022, iris_v + 0.022)
    shine += 0.75 * inside * np.clip(0.5 + (0.014 - glint) / (1.2 * pixel), 0, 1)
    dark = np.array(person.hair, np.float32) * 0.35
    lash = np.exp(-0.5 * ((down - high) / 0.013) ** 2) * np.clip(1.12 - np.abs(t), 0, 0.12) / 0.12
    paint(patch, dark, 0.85 * np.clip(lash * (0.75 + 0.25 * t), 0, 1))
    lower = np.exp(-0.5 * ((down - low) / 0.009) ** 2) * (np.abs(t) < 1)
    crease = np.exp(-0.5 * ((down + person.eye_height * (1.05 * arch + 0.42)) / 0.011) ** 2) * np.clip(1 - t**2, 0, 1)
    patch *= (1 - 0.35 * lower - 0.30 * crease)[..., None]


def _brow(albedo: np.ndarray, seen: Surface, person: Identity, face: Expression, side: int, grain: np.ndarray) -> None:
    rows, columns = _window(seen, side * person.eye_distance, person.brow_level, 0.30)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    along = (seen.u[rows, columns] - side * person.eye_distance * 1.03) * side
    t = np.clip(along / 0.185, -1.4, 1.4)
    level = person.brow_level - 0.06 * face.brow_raise - person.brow_arch * (1 - (t - 0.25) ** 2) + person.brow_tilt * t
    level = level + 0.035
    thickness = person.brow_thickness * np.clip(1.0 - 0.35 * (t + 0.2) ** 2 - 0.25 * t, 0.1, 1)
    across = np.abs(seen.v[rows, columns] - level) / thickness
    alpha = np.clip(1.5 - across, 0, 1) * np.clip((1.08 - np.abs(t)) / 0.2, 0, 1)
    hairs = np.clip(0.80 + 0.22 * grain[rows, columns], 0, 1)
    paint(albedo[rows, columns], np.array(person.hair, np.float32) * 0.55, 0.92 * alpha * hairs)


def _mouth(albedo: np.ndarray, gloss: np.ndarray, seen: Surface, person: Identity, face: Expression) -> None:
    rows, columns = _window(seen, 0.0, person.mouth_level + 0.04, 0.42)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    patch, shine, pixel = albedo[rows, columns], gloss[rows, columns], seen.pixel
    u, v = seen.u[rows, columns], seen.v[rows, columns]
    reach = person.mouth_width * (1 + 0.17 * face.smile - 0.10 * face.mouth_open)
    t = np.clip(u / reach, -1.4, 1.4)
    arch = np.clip(1 - t**2, 0, 1)
    line = person.mouth_level + face.smile * (0.02 - 0.065 * t**2)
    gap = 0.15 * face.mouth_open * arch
    upper_edge, lower_edge = line - 0.3 * gap, line + 0.7 * gap
    bow = 1 - 0.30 * np.exp(-0.5 * (t / 0.14) ** 2) + 0.10 * np.exp(-0.5 * ((np.abs(t) - 0.28) / 0.16) ** 2)
    top = upper_edge - person.upper_lip * np.sqrt(arch) * bow
    bottom = lower_edge + person.lower_lip * arch**0.7
    lips = np.clip(0.5 + np.minimum(v - top, bottom - v) / (2.2 * pixel), 0, 1) * np.clip(
        (1.02 - np.abs(t)) / 0.05, 0, 1
    )
    lip = np.array(person.lips, np.float32)
    round_shade = np.where(v < line, 0.88, 1.04) - 0.10 * np.exp(-0.5 * ((v - bottom) / 0.02) ** 2)
    paint(patch, lip * round_shade[..., None].astype(np.float32), lips)
    shine += 0.10 * lips * np.exp(-0.5 * ((v - (lower_edge + 0.45 * person.lower_lip)) / 0.014) ** 2) * arch
    hole = np.clip(0.5 + np.minimum(v - upper_edge, lower_edge - v) / (1.5 * pixel), 0, 1) * (gap > 0.012)
    paint(patch, MOUTH_DARK, hole)
    teeth = np.clip(0.5 + (upper_edge + 0.5 * gap - v) / (2 * pixel), 0, 1) * np.clip((0.85 - np.abs(t)) / 0.15, 0, 1)
    paint(patch, TEETH * (1 - 0.35 * t**2)[..., None], hole * teeth * 0.92)
    slit = np.exp(-0.5 * ((v - line) / 0.012) ** 2) * np.clip((1.05 - np.abs(t)) / 0.1, 0, 1) * (gap <= 0.02)
    corner = hill(np.abs(u), v, (reach, person.mouth_level + face.smile * -0.045), (0.022, 0.018))
    paint(patch, lip * 0.30, np.clip(0.75 * slit + 0.55 * corner, 0, 1))


def _folds(albedo: np.ndarray, seen: Surface, person: Identity, face: Expression) -> None:
    """Darken the folds from the nose's wings to the mouth's corners; a smile deepens them."""
    depth = 0.05 + 0.15 * max(face.smile, 0.0)
    run = np.clip((seen.v - person.nose_base) / (person.mouth_level - person.nose_base), -0.2, 1.3)
    centre = person.nose_width + 0.045 + (person.mouth_width + 0.03 - person.nose_width) * np.clip(run, 0, 1.2)
    fold = np.exp(-0.5 * ((np.abs(seen.u) - centre) / 0.020) ** 2) * np.clip(1 - np.abs(run - 0.45) / 0.65, 0, 1)
    albedo *= (1 - depth * fold)[..., None]


def _glasses(albedo: np.ndarray, seen: Surface, person: Identity) -> None:
    frame = np.full(seen.u.shape, 9.0, np.float32)
    for side in (-1, 1):
        wide, tall = (seen.u - side * 0.32) / 0.235, (seen.v - person.eye_level - 0.02) / 0.165
        frame = np.minimum(frame, np.abs((np.abs(wide) ** 3 + np.abs(tall) ** 3) ** (1 / 3) - 1) * 0.17)
    bridge = np.maximum(np.abs(seen.u) - 0.085, np.abs(seen.v - person.eye_level + 0.02) - 0.004)
    paint(albedo, np.float32(0.08), 0.9 * seen.cover(np.minimum(frame, bridge) - 0.014, 1.4))


def _window(seen: Surface, u: float, v: float, reach: float) -> tuple[slice, slice]:
    """The smallest box of pixels around all those within `reach` of (u, v) on the front of the face."""
    near = (np.abs(seen.u - u) < reach) & (np.abs(seen.v - v) < reach)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
