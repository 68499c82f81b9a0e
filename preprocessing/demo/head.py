"""Paint a head into a picture: hair, ears, lit skin, features."""

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.demo.features import paint, paint_features
from preprocessing.demo.identity import FaceMaps, Identity, face_maps
from preprocessing.demo.motion import Expression, Pose
from preprocessing.demo.surface import Surface, half_width, see


@dataclass(frozen=True)
class Light:
    """How a scene is lit. `direction` points to the lamp (x right, y down, z to the viewer); colours are RGB factors.

    `wrap` in [0, 1]: 0 is a hard lamp with dark far sides, 1 a soft box whose light reaches around the head.
    """

    direction: tuple[float, float, float]
    lamp: tuple[float, float, float]
    ambient: tuple[float, float, float]
    wrap: float
    gloss: float
    rim: float


def head_box(pose: Pose, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The picture region (left, top, right, bottom) that a head with its hair can touch, cut to `size` (h, w)."""
    height, width = size
    left, right = int(pose.x - 1.12 * pose.scale), int(pose.x + 1.12 * pose.scale)
    top, bottom = int(pose.y - 1.25 * pose.scale), int(pose.y + 1.5 * pose.scale)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def paint_head(
    picture: np.ndarray, person: Identity, pose: Pose, face: Expression, light: Light, hair: bool = True
) -> None:
    """Paint `person` over `picture` (H, W, 3) float32 RGB in place; without `hair` only ears, skin and features."""
    box = head_box(pose, picture.shape[:2])
    region = picture[box[1] : box[3], box[0] : box[2]]
    seen = see(person, pose, face.mouth_open, box)
    maps = face_maps(person)
    strands = _strands(seen, person, maps, light) if hair else None
    if strands is not None:
        _hair(region, seen, person, maps, strands, behind=True)
        _ears(region, seen, person, light)
    paint(region, _lit_face(seen, person, maps, face, light), seen.cover(seen.distance, 1.4))
    if strands is not None:
        _hair(region, seen, person, maps, strands, behind=False)


def _lit_face(seen: Surface, person: Identity, maps: FaceMaps, face: Expression, light: Light) -> np.ndarray:
    albedo, relief = seen.lookup(maps.albedo), seen.lookup(maps.relief)
    grain = seen.lookup(maps.strands)
    gloss = paint_features(albedo, seen, person, face, grain)
    x, y, z = seen.normal
    normal_x, normal_y, normal_z = x - 0.95 * relief[..., 0], y - 0.95 * relief[..., 1], z + 0.12
    length = np.sqrt(normal_x**2 + normal_y**2 + normal_z**2)
    facing = (normal_x * light.direction[0] + normal_y * light.direction[1] + normal_z * light.direction[2]) / length
    diffuse = np.clip((facing + light.wrap) / (1 + light.wrap), 0, None)
    brightness = diffuse[..., None] * np.array(light.lamp, np.float32)
    brightness += (relief[..., 2] * (0.75 - 0.25 * normal_y / length))[..., None] * np.array(light.ambient, np.float32)
    lit = albedo * brightness * (0.55 + 0.45 * relief[..., 2:])
    # Skin shines where the lamp is mirrored to the viewer (Blinn's half vector), and at the rim when lit from behind.
    half = np.array(light.direction) + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    mirrored = np.clip((normal_x * half[0] + normal_y * half[1] + normal_z * half[2]) / length, 0, 1) ** 24
    lit += (light.gloss * mirrored * relief[..., 2] + gloss + light.rim * (1 - z) ** 3)[..., None]
    return lit


def _strands(seen: Surface, person: Identity, maps: FaceMaps, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Return the hair's colour (h, w, 3) in front and its sheen (h, w, 1).

    Strands run away from the crown; their brightness comes from a map in polar coordinates.
    """
    across = seen.x - np.float32(0.3 * person.hair_part)
    angle, radius = np.arctan2(across, seen.y + np.float32(1.15)), np.hypot(across, seen.y + np.float32(1.15))
    strands = cv2.remap(maps.strands, (angle * (200 / np.pi)) % 255, (radius * 60) % 255, cv2.INTER_LINEAR)
    sheen = 0.20 * np.exp(-0.5 * ((radius - 0.42) / 0.13) ** 2) * light.lamp[1]
    facing = 0.72 + 0.25 * np.clip(seen.x * light.direction[0] + seen.y * light.direction[1], -1, 1)
    lit = np.float32(light.lamp) + np.float32(0.6) * np.float32(light.ambient)
    colour = (facing * (1 + 0.22 * strands)).astype(np.float32)[..., None] * (np.float32(person.hair) * lit)
    return colour, (sheen * (1 + 0.5 * strands) * 0.35).astype(np.float32)[..., None]


def _hair(
    region: np.ndarray,
    seen: Surface,
    person: Identity,
    maps: FaceMaps,
    strands: tuple[np.ndarray, np.ndarray],
    behind: bool,
) -> None:
    volume = person.hair_volume
    crown = np.hypot(seen.x / (person.width + volume), (seen.y + 0.02) / (1 + volume)) - 1
    if behind:
        above = np.clip(-seen.y, 0, 1)
        reach = half_width(person, np.clip(seen.y * 0.9, -0.995, 0.6)) + volume * (0.85 - 0.35 * above)
        fall = np.maximum(np.abs(seen.x) - reach - 0.04 * np.sin(9 * seen.y), seen.y - person.hair_length)
        shape = np.where(seen.y < 0, crown * 0.9, fall)
        alpha = seen.cover(shape, 2.5)
    else:
        parted = 0.16 * np.tanh((seen.u - person.hair_part * 0.5) / 0.18) * person.hair_part
        line = person.hairline + person.hair_curve * seen.u**2 + parted
        fringe = 0.035 * seen.lookup(maps.strands)
        front = (seen.v - line + fringe) * 0.8
        sideburn = np.where(np.abs(seen.x) > 0.9 * half_width(person, np.clip(seen.y, -0.9, 0.9)), seen.y - 0.12, 1.0)
        alpha = seen.cover(np.maximum(np.minimum(front, sideburn), crown * 0.9), 2.5)
    colour, sheen = strands
    paint(region, colour * np.float32(0.62 if behind else 1.0) + sheen, alpha)


def _ears(region: np.ndarray, seen: Surface, person: Identity, light: Light) -> None:
    brightness = 0.62 * (np.array(light.lamp, np.float32) + np.array(light.ambient, np.float32))
    skin = np.array(person.skin, np.float32)
    for side in (-1, 1):
        across, down = (seen.x - side * (person.width * 1.0)) / 0.085, (seen.y - 0.06) / 0.19
        distance = (np.hypot(across, down) - 1) * 0.1
        hollow = 1 - 0.35 * np.exp(-0.5 * ((np.hypot(across * 1.1, down) - 0.45) / 0.2) ** 2)
        lean = 1 + 0.25 * side * light.direction[0]
        paint(region, skin * brightness * (hollow * lean)[..., None].astype(np.float32), seen.cover(distance, 1.4))
