"""A keyframe's six pictures, and for training what each patch of them shows.

Painter's algorithm over shaded quads, on a fourth channel that carries the number of the part painted there: so the labels cost
nothing and know what hides what. Lamps are round, shine by themselves, and never shrink below a pixel or so.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from demo_world import ground as ground_module
from demo_world.cameras import CAMERAS, HEIGHT, WIDTH, Camera
from demo_world.ground import Ground
from demo_world.meshes import CLASS_ID, mesh
from demo_world.traffic import Body, Scene

NEAR = 0.35
FAR_ROW_M = 16.0
SUN = np.array([0.35, 0.5, 0.8], dtype=np.float32) / np.linalg.norm([0.35, 0.5, 0.8])
VISIBLE_M = 150.0
PANORAMA_COLUMNS = 2520


@dataclass
class Views:
    """``images`` (6, H, W, 3) BGR uint8 in the order of ``CAMERAS``; ``parts`` (6, H, W) uint8 numbers of what is painted where
    (0: nothing but ground and sky); ``ground_class`` (6, H, W) uint8; ``part_body`` index into ``bodies`` and ``part_class`` per part.
    """

    images: np.ndarray
    parts: np.ndarray | None
    ground_class: np.ndarray | None
    part_body: np.ndarray
    part_class: np.ndarray


class Renderer:
    """Renders the keyframes of one scene; what does not change between keyframes is made once."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.ground: Ground = ground_module.draw(scene.path, scene.road)
        rng = np.random.default_rng(scene.road["seed"])
        self.daylight = float(rng.uniform(0.42, 0.5) if scene.night else rng.uniform(0.85, 1.0))
        self.haze = np.array((36, 28, 24) if scene.night else (205, 200, 190), dtype=np.float32) * (0.8 if scene.rain else 1.0)
        self.haze_m = float(rng.uniform(90, 140) if scene.rain else rng.uniform(220, 400))
        self.panorama = _panorama(rng, scene, self.haze)
        self.rails = _rails(scene)

    def render(self, keyframe: int, labels: bool = False) -> Views:
        """The six views at a keyframe; with ``labels`` also the part and ground pictures."""
        ego = self.scene.ego_keyframes[keyframe]
        rng = np.random.default_rng((self.scene.road["seed"], keyframe))
        bodies = self.scene.bodies + self.rails
        shapes = _Shapes(bodies, keyframe, ego)
        images = np.empty((6, HEIGHT, WIDTH, 3), dtype=np.uint8)
        parts = np.empty((6, HEIGHT, WIDTH), dtype=np.uint8) if labels else None
        classes = np.empty((6, HEIGHT, WIDTH), dtype=np.uint8) if labels else None
        for view, camera in enumerate(CAMERAS):
            canvas = self._backdrop(camera, ego)
            shapes.paint(canvas, camera, self)
            images[view] = self._weather(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), rng)
            if parts is not None and classes is not None:
                parts[view] = canvas[..., 3]
                classes[view] = self._ground_classes(camera, ego)
        return Views(images, parts, classes, shapes.part_body, shapes.part_class)

    def _map(self, camera: Camera, ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates in the ground picture for each pixel below the horizon."""
        x, y, _ = camera.ground
        cos, sin = np.cos(ego[2]), np.sin(ego[2])
        column = (x * np.float32(cos) - y * np.float32(sin) + np.float32(ego[0] - self.ground.origin[0])) / ground_module.RESOLUTION
        row = (x * np.float32(sin) + y * np.float32(cos) + np.float32(ego[1] - self.ground.origin[1])) / ground_module.RESOLUTION
        return column.astype(np.float32), row.astype(np.float32)

    def _backdrop(self, camera: Camera, ego: np.ndarray) -> np.ndarray:
        """(H, W, 4) sky and ground, darkened and hazed, part number 0."""
        canvas = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
        top = camera.ground_rows
        column = ((camera.azimuth + ego[2]) % (2 * np.pi) / (2 * np.pi) * PANORAMA_COLUMNS).astype(np.int64) % PANORAMA_COLUMNS
        canvas[:top, :, :3] = np.take(self.panorama, column, 1)[-top:]
        depth = camera.ground[2]
        px, py = self._map(camera, ego)
        split = int(np.searchsorted(-depth, -FAR_ROW_M))
        ground = np.empty((HEIGHT - top, WIDTH, 3), dtype=np.uint8)
        if split:
            offset = np.float32(0.375)
            ground[:split] = cv2.remap(
                self.ground.coarse, px[:split] / 4 - offset, py[:split] / 4 - offset, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        ground[split:] = cv2.remap(self.ground.colour, px[split:], py[split:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        clear = np.exp(-depth / self.haze_m).astype(np.float32)[:, None, None]
        lit = ground.astype(np.float32)
        if self.scene.night and camera.yaw_deg == 0:  # the ego's headlights
            spread = ((np.arange(WIDTH) - camera.cx) / camera.focal)[None, :, None]
            lamp = 0.5 * np.exp(-((spread / 0.22) ** 2)) * np.exp(-depth / 24.0)[:, None, None]
            lit *= clear * (self.daylight + lamp.astype(np.float32))
        else:
            lit *= clear * np.float32(self.daylight)
        lit += self.haze * (1 - clear)
        canvas[top:, :, :3] = lit  # stays below 255: daylight and headlights never add up to more than 1
        return canvas

    def _ground_classes(self, camera: Camera, ego: np.ndarray) -> np.ndarray:
        classes = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        px, py = self._map(camera, ego)
        classes[camera.ground_rows :] = cv2.remap(
            self.ground.label, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(CLASS_ID["verge"],)
        )
        return classes

    def _weather(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sensor noise, and streaks when it rains."""
        if self.scene.rain:
            streaks = _streaks()[int(rng.integers(8))]
            image = cv2.add(image, np.roll(streaks, int(rng.integers(WIDTH)), 1))
        grain = _grain()
        row, column = int(rng.integers(64)), int(rng.integers(64))
        patch = grain[row : row + HEIGHT, column : column + WIDTH]
        return cv2.add(image, patch, dtype=cv2.CV_8U)


class _Shapes:
    """All quads and lamps of a keyframe in the ego frame, sorted far to near per camera when painted."""

    def __init__(self, bodies: list[Body], keyframe: int, ego: np.ndarray) -> None:
        quads, normals, colours, owners, lamps, lamp_owner = [], [], [], [], [], []
        part_body, part_class = [-1], [0]
        centres: list[tuple[np.ndarray, int]] = []
        cos_e, sin_e = np.cos(ego[2]), np.sin(ego[2])
        for index, body in enumerate(bodies):
            x, y, yaw = body.track[keyframe]
            dx, dy = x - ego[0], y - ego[1]
            if dx * dx + dy * dy > VISIBLE_M**2 or len(part_class) > 240:
                continue
            (q, n, c, lights), class_id = mesh(body.kind, body.paint, body.clothes, int(body.lamp[keyframe]))
            turn = yaw - ego[2]
            spin = np.array(
                [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]], dtype=np.float32
            )  # rows: row-vector form
            place = np.array([dx * cos_e + dy * sin_e, -dx * sin_e + dy * cos_e, 0], dtype=np.float32)
            part = len(part_class)
            part_body.append(index)
            part_class.append(class_id)
            quads.append(q @ spin + place)
            normals.append(n @ spin)
            colours.append(c)
            owners.append(np.full(len(q), len(centres)))
            centres.append((place, part))
            for lamp in lights:
                lamp_class = int(lamp[8])
                if lamp_class != class_id:
                    number = len(part_class)
                    part_body.append(index)
                    part_class.append(lamp_class)
                else:
                    number = part
                facing = np.array([lamp[4], 0, 0], dtype=np.float32) @ spin
                lamps.append((lamp[:3] @ spin + place, facing, lamp[3], lamp[5:8], number))
                lamp_owner.append(len(centres) - 1)
        self.part_body, self.part_class = np.array(part_body), np.array(part_class)
        self.centres = centres
        self.quads = np.concatenate(quads) if quads else np.zeros((0, 4, 3), np.float32)
        self.normals = np.concatenate(normals) if normals else np.zeros((0, 3), np.float32)
        self.colours = np.concatenate(colours) if colours else np.zeros((0, 3), np.float32)
        self.owners = np.concatenate(owners) if owners else np.zeros(0, int)
        self.shade = (0.55 + 0.45 * np.clip(self.normals @ SUN, 0, 1)).astype(np.float32)
        self.lamps, self.lamp_owner = lamps, lamp_owner

    def paint(self, canvas: np.ndarray, camera: Camera, renderer: Renderer) -> None:
        """Draw everything this camera sees, far to near."""
        if not len(self.centres):
            return
        place = np.array(camera.place, dtype=np.float32)
        seen = (self.quads - place) @ camera.ego_to_camera.T  # (P, 4, 3) camera axes
        toward = np.einsum("pc,pc->p", self.normals, place - self.quads.mean(1)) > 0
        depth = seen[..., 2]
        in_front = depth.max(1) > NEAR
        with np.errstate(divide="ignore", invalid="ignore"):
            u = seen[..., 0] / np.maximum(depth, 0.05) * camera.focal + camera.cx
        whole = depth.min(1) > NEAR
        on_screen = ~whole | ((u.max(1) >= 0) & (u.min(1) < WIDTH))
        keep = np.flatnonzero(toward & in_front & on_screen)
        if not len(keep):
            return
        distance = np.array([np.hypot(c[0][0] - place[0], c[0][1] - place[1]) for c in self.centres])
        order = keep[np.argsort(-distance[self.owners[keep]], kind="stable")]
        clear = np.exp(-distance / renderer.haze_m)
        by_owner: dict[int, list[int]] = {}
        for i, owner in enumerate(self.lamp_owner):
            by_owner.setdefault(owner, []).append(i)
        last = -1
        for i in order:
            owner = int(self.owners[i])
            if owner != last and last >= 0:
                self._lamps(canvas, camera, by_owner.get(last, ()), place)
            last = owner
            points = seen[i] if whole[i] else _clip(seen[i])
            if len(points) < 3:
                continue
            light = self.shade[i] * renderer.daylight
            if renderer.scene.night and camera.yaw_deg == 0:
                light += 0.45 * float(np.exp(-distance[owner] / 26.0))
            colour = self.colours[i] * light * clear[owner] + renderer.haze * (1 - clear[owner])
            flat = points[:, :2] / points[:, 2:] * camera.focal
            pixel = np.clip((flat + np.array([camera.cx, camera.cy])) * 16, -60000, 60000).astype(np.int32)
            cv2.fillConvexPoly(canvas, pixel, (*[float(min(255.0, c)) for c in colour], self.centres[owner][1]), cv2.LINE_8, 4)
        self._lamps(canvas, camera, by_owner.get(last, ()), place)

    def _lamps(self, canvas: np.ndarray, camera: Camera, which, place: np.ndarray) -> None:  # type: ignore[no-untyped-def]
        for i in which:
            position, facing, radius, colour, number = self.lamps[i]
            if facing @ (place - position) <= 0:
                continue
            x, y, z = camera.ego_to_camera @ (position - place)
            if z < NEAR:
                continue
            size = max(radius * camera.focal / z, 1.3)
            if size > 60:
                continue
            centre = (int((x / z * camera.focal + camera.cx) * 16), int((y / z * camera.focal + camera.cy) * 16))
            if abs(centre[0]) > 30000 or abs(centre[1]) > 30000:
                continue
            cv2.circle(canvas, centre, int(size * 16), (*[float(c) for c in colour], int(number)), -1, cv2.LINE_8, 4)


def _clip(points: np.ndarray) -> np.ndarray:
    """The part of a polygon (n, 3) in front of the near plane (Sutherland-Hodgman against one plane)."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, 0), strict=True):
        if a[2] > NEAR:
            kept.append(a)
        if (a[2] > NEAR) != (b[2] > NEAR):
            kept.append(a + (b - a) * (NEAR * 1.001 - a[2]) / (b[2] - a[2]))
    return np.array(kept, dtype=np.float32).reshape(-1, 3)


def _panorama(rng: np.random.Generator, scene: Scene, haze: np.ndarray) -> np.ndarray:
    """(H, columns, 3) sky with a skyline all round; the last row is the horizon."""
    rows = HEIGHT
    zenith = np.array((30, 18, 14) if scene.night else ((150, 150, 148) if scene.rain else (225, 170, 110)), dtype=np.float32)
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 2
    sky = np.broadcast_to(zenith * (1 - ramp) + haze * ramp, (rows, PANORAMA_COLUMNS, 3)).copy()
    at, dim = 0, 0.35 if scene.night else 1.0
    urban = scene.kind != "fast"
    while at < PANORAMA_COLUMNS:
        width = int(rng.integers(25, 110))
        height = int(rng.integers(8, 70 if urban else 22))
        tone = np.array(rng.uniform(60, 170), dtype=np.float32) * dim + rng.uniform(-12, 12, 3)
        if not urban or rng.random() < 0.3:
            tone = np.array((60, 95, 70)) * dim * rng.uniform(0.7, 1.2)
        block = np.clip(tone * 0.75 + haze * 0.25, 0, 255)
        sky[rows - height :, at : at + width] = block
        if urban and height > 25:  # windows
            glow = np.array((120, 190, 215)) if scene.night else block * 0.7
            for r in range(rows - height + 4, rows - 12, 8):
                for c in range(at + 3, min(at + width, PANORAMA_COLUMNS) - 4, 8):
                    if rng.random() < (0.25 if scene.night else 0.8):
                        sky[r : r + 4, c : c + 4] = glow
        at += width
    return np.clip(sky, 0, 255).astype(np.uint8)


def _rails(scene: Scene) -> list[Body]:
    """Guard rails on both sides of the carriageway (and the far side's)."""
    if scene.road["kind"] != "fast":
        return []
    half = 1.5 * ground_module.FAST_LANE
    rails = []
    for offset in (-half - 0.9, half + 1.5):
        for s in np.arange(-50.0, scene.road["length"] + 90.0, 20.0):
            rails.append(Body("rail", np.repeat(np.array([[s, offset, 0.0]]), 40, 0)))
    return rails


_CACHE: dict[str, np.ndarray] = {}


def _grain() -> np.ndarray:
    if "grain" not in _CACHE:
        grain = np.random.default_rng(3).normal(0, 1.2, (HEIGHT + 64, WIDTH + 64, 1)).round().astype(np.int16)
        _CACHE["grain"] = np.repeat(grain, 3, 2)
    return _CACHE["grain"]


def _streaks() -> np.ndarray:
    if "streaks" not in _CACHE:
        rng = np.random.default_rng(5)
        pool = np.zeros((8, HEIGHT, WIDTH, 3), dtype=np.uint8)
        for picture in pool:
            for _ in range(60):
                x, y, length = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)), int(rng.integers(6, 18))
                cv2.line(picture, (x, y), (x + length // 5, y + length), (42, 42, 40), 1)
        _CACHE["streaks"] = pool
    return _CACHE["streaks"]
