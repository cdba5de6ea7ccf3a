"""The drawing itself: forty attributes as shapes on a small canvas, many faces at once.

Coordinates run from -1 to 1, x to the right and y down. Every shape is a mask in [0, 1] with an edge of one pixel, and
paints its colour over what is there. A face's skin, hair, background and proportions come from its own 16 numbers.
"""

import numpy as np

_HAIR = {  # RGB
    "Black_Hair": (0.09, 0.07, 0.07),
    "Brown_Hair": (0.36, 0.22, 0.12),
    "Blond_Hair": (0.87, 0.74, 0.42),
    "Gray_Hair": (0.68, 0.68, 0.70),
}
_NO_COLOUR = (0.25, 0.16, 0.11)  # hair that the attributes do not name
_LIGHT, _DARK = np.array([0.96, 0.80, 0.69]), np.array([0.55, 0.36, 0.25])  # the range of skins


def paint_faces(attributes, names, draws, size) -> np.ndarray:
    """Return uint8 pictures (n, size, size, 3) of the attributes (n, K); `draws` (n, 16) in [0, 1) vary the rest."""
    return _Canvas(attributes, names, draws, size).paint()


class _Canvas:
    """A stack of pictures, and what they should show."""

    def __init__(self, attributes, names, draws, size):
        self.has = {name: attributes[:, i].astype(float) for i, name in enumerate(names)}
        self.n, self.size, self.draws = len(attributes), size, draws
        axis = (np.arange(size) + 0.5) / size * 2 - 1
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        self.rgb = np.zeros((self.n, size, size, 3))

    def vary(self, which, low, high):
        """One number a face, from its own draw."""
        return low + (high - low) * self.draws[:, which]

    def paint(self):
        self._proportions()
        self._colours()
        self.rgb[:] = np.stack([self.vary(k, 0.15, 0.95) for k in (0, 1, 2)], axis=1)[:, None, None]
        for layer in (self._behind, self._head, self._cheeks, self._eyes, self._nose, self._beard, self._mouth):
            layer()
        for layer in (self._hair, self._jewels, self._hat):
            layer()
        self._blur()
        return np.round(np.clip(self.rgb, 0, 1) * 255).astype(np.uint8)

    # shapes

    def ellipse(self, x, y, width, height):
        """Mask of an ellipse around (x, y); numbers, or one a face."""
        x, y, width, height = (_each(v) for v in (x, y, width, height))
        radius = np.sqrt(((self.x - x) / width) ** 2 + ((self.y - y) / height) ** 2)
        return self._edge((1 - radius) * np.minimum(width, height))

    def stroke(self, x, y, width, bend, thickness):
        """Mask of a part of a parabola y + bend ((x' - x) / width)^2: positive `bend` has the ends lower."""
        x, y, width, bend, thickness = (_each(v) for v in (x, y, width, bend, thickness))
        along = (self.x - x) / width
        return self._edge(thickness - np.abs(self.y - y - bend * along**2)) * self._edge((1 - np.abs(along)) * width)

    def _edge(self, distance):
        return np.clip(distance * self.size / 2 + 0.5, 0, 1)

    def put(self, mask, colour, strength=1.0):
        """Paint a colour (3,) or (n, 3) where the mask is, with one strength or one a face."""
        cover = (mask * _each(strength))[..., None]
        self.rgb += cover * (np.asarray(colour, float).reshape(-1, 1, 1, 3) - self.rgb)

    def both(self, shape, x, *rest):
        """A shape left and right of the middle of the face."""
        return np.maximum(shape(self.cx - x, *rest), shape(self.cx + x, *rest))

    # what the face is like

    def _proportions(self):
        has = self.has
        self.cx, self.cy = self.vary(3, -0.05, 0.05), self.vary(4, 0.02, 0.1)
        self.wide = self.vary(5, 0.46, 0.52) + 0.07 * has["Chubby"] - 0.05 * has["Oval_Face"] + 0.02 * has["Male"]
        self.high = self.vary(6, 0.62, 0.68) + 0.05 * has["Oval_Face"]
        self.eye_y = self.cy - 0.12
        self.mouth_y = self.cy + 0.36

    def _colours(self):
        has = self.has
        tone = np.clip(self.vary(7, 0.0, 0.6) - 0.6 * has["Pale_Skin"], 0, 1)[:, None]
        self.skin = _LIGHT + tone * (_DARK - _LIGHT) + 0.05 * has["Pale_Skin"][:, None]
        self.shade = 0.72 * self.skin
        self.hair = np.tile(_NO_COLOUR, (self.n, 1)) * (0.8 + 0.4 * self.draws[:, 8:9])
        for name, colour in _HAIR.items():  # the last that a face has; grey wins
            self.hair = np.where(
                has[name][:, None] > 0, np.asarray(colour) * (0.9 + 0.2 * self.draws[:, 8:9]), self.hair
            )
        self.thatch = 1 - has["Bald"]  # whether there is hair on the head

    # layers, from back to front

    def _behind(self):
        """Long hair behind the head, neck and clothes."""
        has = self.has
        length = np.where(has["Male"] > 0, 0.0, 1.0) * self.thatch
        wave = 0.06 * np.sin(9 * self.y + 6 * _each(self.draws[:, 9])) * _each(has["Wavy_Hair"])
        side = np.abs(self.x - _each(self.cx) + wave) / _each(self.wide + 0.16 + 0.06 * has["Wavy_Hair"])
        self.put(self._edge((1 - side) * 0.5) * self._edge(self.y + 0.45), self.hair, length)
        self.put(
            self.ellipse(self.cx, 1.25, 0.85, 0.42), np.stack([self.vary(k, 0.1, 0.8) for k in (10, 11, 12)], axis=1)
        )
        self.put(self.ellipse(self.cx, self.cy + 0.68, 0.22 + 0.05 * has["Chubby"], 0.4), self.shade)
        tie = self.ellipse(self.cx, 1.02, 0.09, 0.25)
        self.put(tie, (0.55, 0.08, 0.12), has["Wearing_Necktie"])

    def _head(self):
        has = self.has
        self.put(self.both(self.ellipse, self.wide, self.cy, 0.07, 0.13), self.shade)
        self.put(self.ellipse(self.cx, self.cy, self.wide, self.high), self.skin)
        self.put(
            self.stroke(self.cx, self.cy + self.high + 0.03, 0.28, -0.08, 0.03), self.shade, 0.8 * has["Double_Chin"]
        )
        old = 1 - has["Young"]
        for k in (0.4, 0.47):  # lines on the forehead, and beside the mouth
            self.put(self.stroke(self.cx, self.cy - k, 0.24, 0.02, 0.012), self.shade, 0.8 * old)
        self.put(self.both(self.stroke, 0.2, self.cy + 0.2, 0.05, 0.1, 0.02), self.shade, 0.7 * old)

    def _cheeks(self):
        has = self.has
        self.put(self.both(self.ellipse, 0.3, self.cy + 0.15, 0.13, 0.1), (0.93, 0.42, 0.42), 0.55 * has["Rosy_Cheeks"])
        bone = self.both(self.stroke, 0.32, self.cy + 0.2, 0.12, -0.06, 0.025)
        self.put(bone, self.shade, 0.7 * has["High_Cheekbones"])
        glow = self.ellipse(self.cx, self.cy - 0.1, 0.3, 0.35)
        self.put(glow, (1.0, 0.93, 0.85), 0.18 * has["Attractive"])

    def _eyes(self):
        has = self.has
        tall = 0.075 - 0.045 * has["Narrow_Eyes"]
        shadow = self.both(self.ellipse, 0.2, self.eye_y - 0.05, 0.15, 0.09)
        self.put(shadow, (0.35, 0.22, 0.45), 0.7 * has["Heavy_Makeup"])
        bags = self.both(self.stroke, 0.2, self.eye_y + 0.14, 0.11, -0.05, 0.025)
        self.put(bags, 0.6 * self.skin, 0.9 * has["Bags_Under_Eyes"])
        self.put(self.both(self.ellipse, 0.2, self.eye_y, 0.115, tall), (0.97, 0.97, 0.95))
        iris = np.stack([self.vary(13, 0.1, 0.35), self.vary(14, 0.15, 0.4), self.vary(15, 0.1, 0.55)], axis=1)
        self.put(self.both(self.ellipse, 0.2, self.eye_y, 0.05, tall), iris)
        brow = self.both(
            self.stroke, 0.2, self.eye_y - 0.15 - 0.02 * has["Arched_Eyebrows"], 0.14,
            0.02 + 0.08 * has["Arched_Eyebrows"], 0.018 + 0.028 * has["Bushy_Eyebrows"],
        )  # fmt: skip
        self.put(brow, 0.6 * self.hair)
        rim = self.both(self.ellipse, 0.2, self.eye_y, 0.19, 0.15) - self.both(
            self.ellipse, 0.2, self.eye_y, 0.15, 0.11
        )
        bridge = self.stroke(self.cx, self.eye_y, 0.06, 0.0, 0.025)
        self.put(np.maximum(np.clip(rim, 0, 1), bridge), (0.05, 0.05, 0.08), has["Eyeglasses"])

    def _nose(self):
        has = self.has
        width = 0.07 + 0.06 * has["Big_Nose"] - 0.025 * has["Pointy_Nose"]
        self.put(self.ellipse(self.cx, self.cy + 0.12, width, 0.06 + 0.03 * has["Big_Nose"]), self.shade)
        self.put(self.ellipse(self.cx, self.cy + 0.02, 0.025 + 0.02 * has["Pointy_Nose"], 0.14), 0.9 * self.skin)

    def _beard(self):
        has = self.has
        jaw = self.ellipse(self.cx, self.cy, self.wide, self.high) * self._edge(self.y - _each(self.cy + 0.22))
        self.put(jaw, 0.55 * self.skin, 0.45 * has["5_o_Clock_Shadow"])
        bare = np.maximum(has["No_Beard"], np.maximum(has["Goatee"], has["Mustache"]))
        self.put(jaw, 0.8 * self.hair, 0.85 * (1 - bare) * has["Male"])
        self.put(self.ellipse(self.cx, self.cy + 0.56, 0.13, 0.13), 0.8 * self.hair, has["Goatee"])
        burns = self.both(self.ellipse, self.wide - 0.04, self.cy + 0.1, 0.06, 0.24)
        self.put(burns, self.hair, has["Sideburns"])

    def _mouth(self):
        has = self.has
        bend = -0.02 - 0.09 * has["Smiling"]
        width, thick = 0.17 + 0.05 * has["Smiling"], 0.028 + 0.025 * has["Big_Lips"]
        lips = np.where(has["Wearing_Lipstick"][:, None] > 0, (0.75, 0.05, 0.15), 0.5 * self.skin + (0.28, 0.06, 0.08))
        self.put(
            self.stroke(self.cx, self.mouth_y - bend / 2, width, bend, thick + 0.03 * has["Mouth_Slightly_Open"]), lips
        )
        gap = self.stroke(self.cx, self.mouth_y - bend / 2, 0.8 * width, 0.8 * bend, 0.03)
        self.put(gap, (0.95, 0.93, 0.9), has["Mouth_Slightly_Open"])
        self.put(self.stroke(self.cx, self.cy + 0.25, 0.2, 0.05, 0.045), 0.7 * self.hair, has["Mustache"])

    def _hair(self):
        has = self.has
        line = -0.62 * self.high + self.cy + 0.06 - 0.18 * has["Receding_Hairline"]  # where the forehead begins
        cap = self.ellipse(self.cx, self.cy - 0.08, self.wide + 0.07, self.high + 0.06)
        wave = 0.05 * np.sin(14 * self.x + 6 * _each(self.draws[:, 9])) * _each(has["Wavy_Hair"])
        slant = 0.12 * np.abs(self.x - _each(self.cx)) * _each(has["Straight_Hair"])
        self.put(cap * self._edge(_each(line) - self.y + wave + slant), self.hair, self.thatch)
        fringe = cap * self._edge(_each(self.eye_y - 0.17) - self.y)
        self.put(fringe, self.hair, self.thatch * has["Bangs"])

    def _jewels(self):
        has = self.has
        rings = self.both(self.ellipse, self.wide + 0.02, self.cy + 0.2, 0.05, 0.07)
        self.put(rings, (0.98, 0.85, 0.25), has["Wearing_Earrings"])
        chain = self.stroke(self.cx, self.cy + 0.86, 0.26, -0.14, 0.03)
        self.put(chain, (0.98, 0.93, 0.7), has["Wearing_Necklace"])

    def _hat(self):
        has = self.has
        colour = np.stack([self.vary(k, 0.0, 0.8) for k in (12, 10, 11)], axis=1)
        crown = self.ellipse(self.cx, self.cy - 0.6, self.wide + 0.05, 0.4) * self._edge(_each(self.cy - 0.45) - self.y)
        brim = self.stroke(self.cx, self.cy - 0.45, self.wide + 0.22, 0.0, 0.055)
        self.put(np.maximum(crown, brim), colour, has["Wearing_Hat"])

    def _blur(self):
        """Replace blurry faces by their mean over 5x5 pixels at side 64, at least 3x3."""
        from scipy.ndimage import uniform_filter

        rows = self.has["Blurry"] > 0
        width = max(3, round(5 * self.size / 64))
        self.rgb[rows] = uniform_filter(self.rgb[rows], size=(0, width, width, 0), mode="nearest")


def _each(value):
    """A number, or one a face as (n, 1, 1)."""
    value = np.asarray(value, dtype=float)
    return value if value.ndim == 0 else value.reshape(-1, 1, 1)
