"""The head as a surface: an egg outline filled with a rotated ball, and the way between picture and face plane."""

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.demo.identity import MAP_REACH, MAP_SIZE, Identity
from preprocessing.demo.motion import Pose


@dataclass(frozen=True)
class Surface:
    """What one picture region sees of a head; every field is float32 (h, w).

    `x`, `y`: position beside the upright head, in half head heights. `u`, `v`: face-plane coordinates of the point seen.
    `distance`: signed distance to the outline (negative inside). `normal`: three (h, w) components, z to the viewer.
    `pixel`: the size of one picture pixel in these units.
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray
    normal: tuple[np.ndarray, np.ndarray, np.ndarray]
    pixel: float

    def lookup(self, table: np.ndarray) -> np.ndarray:
        """Sample a map over (u, v) at every pixel."""
        factor = (MAP_SIZE - 1) / (2 * MAP_REACH)
        columns, rows = (self.u + MAP_REACH) * factor, (self.v + MAP_REACH) * factor
        return cv2.remap(table, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def cover(self, distance: np.ndarray, softness: float = 1.0) -> np.ndarray:
        """Coverage in [0, 1] of a shape with signed `distance`, its edge `softness` pixels wide."""
        return np.clip(0.5 - distance / (softness * self.pixel), 0, 1)


def half_width(person: Identity, y: np.ndarray) -> np.ndarray:
    """Half the head's width at height `y` in [-1, 1]; the jaw narrows it below the cheeks."""
    y = np.asarray(y, np.float32)
    away = np.abs(y)
    rounding = away ** np.where(y < 0, np.float32(2.2), np.float32(person.chin))
    round_part = np.sqrt(np.clip(1 - rounding, np.float32(1e-4), 1))
    return np.float32(person.width) * round_part * (1 - np.float32(person.jaw) * np.clip(y - np.float32(0.1), 0, 1))


def see(person: Identity, pose: Pose, mouth_open: float, box: tuple[int, int, int, int]) -> Surface:
    """Return the surface that the picture region `box` (left, top, right, bottom) sees."""
    left, top, right, bottom = box
    columns = (np.arange(left, right, dtype=np.float32) - pose.x) / pose.scale
    rows = (np.arange(top, bottom, dtype=np.float32) - pose.y)[:, None] / pose.scale
    cosine, sine = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    x, y = cosine * columns + sine * rows, cosine * rows - sine * columns
    y_head = np.where(y > 0.4, 0.4 + (y - 0.4) / np.float32(1 + 0.09 * mouth_open), y)  # an open mouth lowers the chin
    y_ball = np.clip(y_head, -0.995, 0.995)
    edge = half_width(person, y_ball).astype(np.float32)
    across = np.clip(x / edge, -1, 1)
    ring = np.sqrt(1 - y_ball**2)
    ball_x, ball_z = across * ring, np.sqrt(1 - across**2) * ring
    cos_yaw, sin_yaw = np.float32(np.cos(pose.yaw)), np.float32(np.sin(pose.yaw))
    cos_pitch, sin_pitch = np.float32(np.cos(pose.pitch)), np.float32(np.sin(pose.pitch))
    turned_x, turned_z = ball_x * cos_yaw - ball_z * sin_yaw, ball_x * sin_yaw + ball_z * cos_yaw
    u, v = person.width * turned_x, y_ball * cos_pitch - turned_z * sin_pitch
    # First-order distance to the outline: the implicit function over the length of its gradient.
    implicit = (x / person.width) ** 2 + (y_head) ** 2 - (half_width(person, y_ball) / person.width) ** 2 - y_ball**2
    implicit = implicit.astype(np.float32)
    slope_y, slope_x = np.gradient(implicit, 1 / pose.scale)
    distance = implicit / np.maximum(np.hypot(slope_x, slope_y), 0.3)
    return Surface(x, y, u, v, distance.astype(np.float32), (ball_x, y_ball, ball_z), 1 / pose.scale)


def project(person: Identity, pose: Pose, mouth_open: float, points: np.ndarray) -> np.ndarray:
    """Return the picture positions (N, 2) of face-plane `points` (N, 2): the inverse of what `see` computes."""
    turned_x, turned_y = points[:, 0] / person.width, points[:, 1]
    # v = y cos - z' sin and x'^2 + y^2 + ... = 1: first undo the pitch, then the yaw.
    depth = np.sqrt(np.clip(1 - turned_x**2 - turned_y**2, 0, 1))
    y = turned_y * np.cos(pose.pitch) + depth * np.sin(pose.pitch)
    turned_z = depth * np.cos(pose.pitch) - turned_y * np.sin(pose.pitch)
    x = turned_x * np.cos(pose.yaw) + turned_z * np.sin(pose.yaw)
    y = np.clip(y, -0.995, 0.995)
    across = np.clip(x / np.sqrt(1 - y**2), -1, 1) * half_width(person, y)
    height = np.where(y > 0.4, 0.4 + (y - 0.4) * (1 + 0.09 * mouth_open), y)
    cosine, sine = np.cos(pose.roll), np.sin(pose.roll)
    picture_x = pose.x + pose.scale * (cosine * across - sine * height)
    picture_y = pose.y + pose.scale * (sine * across + cosine * height)
    return np.stack([picture_x, picture_y], axis=1)


def head_box_surface(
    person: Identity, pose: Pose, mouth_open: float, size: tuple[int, int]
) -> tuple[Surface, tuple[int, int, int, int]]:
    """Return what the part of a picture of `size` (h, w) that can show the head sees of it, and that part's box."""
    height, width = size
    left, right = int(pose.x - 1.12 * pose.scale), int(pose.x + 1.12 * pose.scale)
    top, bottom = int(pose.y - 1.25 * pose.scale), int(pose.y + 1.5 * pose.scale)
    box = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    return see(person, pose, mouth_open, box), box
