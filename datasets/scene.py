"""A procedural sample: a street at dusk as a visible and a thermal camera see it, with its labels.

Both images come from one geometry, so they are aligned to the pixel; how a surface looks to either camera is its
material. Sky, ground and walls are shaded per pixel from world coordinates; everything else is polygons, painted far
to near.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import torch

from datasets.canvas import (
    EYE,
    MATERIALS,
    Canvas,
    Material,
    band,
    ellipse,
    flat,
    lay,
    limb,
    rectangle,
    stripes,
    upright,
)

CAR, PERSON, BIKE, GUARDRAIL, CONE = 1, 2, 3, 6, 7  # MSRS classes; 0 is background
LANE, KERB, FACADE = 1.65, 5.2, 8.1  # distance from the road's middle to lane centres, kerbs and house fronts
WALLS = ("brick", "plaster", "stone", "concrete")
BODYWORK = ((0.78, 0.78, 0.75), (0.5, 0.51, 0.53), (0.06, 0.06, 0.07), (0.45, 0.07, 0.06), (0.09, 0.17, 0.36))
CLOTHES = ((0.05, 0.05, 0.07), (0.10, 0.13, 0.25), (0.33, 0.30, 0.22), (0.40, 0.10, 0.10), (0.60, 0.58, 0.55))

# Side views of cars, (z, y) from the rear bumper over the roof to the front, and what covers each stretch.
COVERS = ("plastic", "body", "body", "glass", "body", "glass", "bonnet", "body", "plastic")
# fmt: off
CARS = np.array([  # a saloon, a hatchback, a van
    (.05, .28, 0, .55, .06, .95, .65, 1.02, 1.3, 1.42, 2.5, 1.46, 3.25, 1, 4.2, .82, 4.35, .55, 4.32, .28),
    (.05, .28, 0, .55, .03, .9, .06, .98, .4, 1.46, 2, 1.52, 2.85, 1.02, 3.7, .85, 3.85, .55, 3.82, .28),
    (.05, .3, 0, .6, .03, 1.1, .05, 1.15, .2, 1.9, 3.6, 1.95, 4.2, 1.25, 4.75, 1, 4.9, .6, 4.87, .3),
]).reshape(3, 10, 2)
# fmt: on

# Joints of a body of height 1, (forward, left, up): hip, neck, head; then two legs and two arms, trunk first.
WALKING = (
    ((0, 0, 0.5), (0.01, 0, 0.79), (0.025, 0, 0.905)),
    ((0, 0.05, 0.5), (0.11, 0.05, 0.28), (0.15, 0.05, 0.03)),
    ((0, -0.05, 0.5), (-0.04, -0.05, 0.27), (-0.16, -0.05, 0.05)),
    ((0.01, 0.11, 0.77), (-0.06, 0.135, 0.62), (-0.08, 0.135, 0.48)),
    ((0.01, -0.11, 0.77), (0.05, -0.135, 0.62), (0.16, -0.135, 0.51)),
)
RIDING = (
    ((-0.14, 0, 0.56), (0.04, 0, 0.82), (0.09, 0, 0.93)),
    ((-0.14, 0.05, 0.56), (0.05, 0.06, 0.42), (0, 0.06, 0.2)),
    ((-0.14, -0.05, 0.56), (0.08, -0.06, 0.5), (0.03, -0.06, 0.27)),
    ((0.04, 0.11, 0.79), (0.14, 0.13, 0.66), (0.26, 0.12, 0.6)),
    ((0.04, -0.11, 0.79), (0.14, -0.13, 0.66), (0.26, -0.12, 0.6)),
)


def paint_sky(canvas):
    """A gradient with streaks of cloud: bright to VI, cold to IR, the clouds faint in both."""
    right, up = canvas.rays(np.s_[: canvas.label.shape[0], : canvas.label.shape[1]])
    cloud = canvas.texture(right, up * 3.5, 4 / canvas.focal, 0.5, 6)
    rise = np.clip(up * 1.9, 0, 1)[..., None] ** 0.7
    colour = canvas.haze + rise * (canvas.zenith - canvas.haze)
    canvas.look[..., :3] = colour * (1 + 0.09 * cloud[..., None])
    canvas.look[..., 3] = 0.15 - 0.10 * rise[..., 0] + 0.022 * cloud


def paint_ground(canvas, crossing):
    """Road and pavements with a zebra crossing: VI sees the markings, IR the warm tracks of the tyres."""
    height, width = canvas.label.shape
    box = np.s_[int(canvas.horizon + 0.01 * canvas.focal) + 1 : height, :width]
    right, up = canvas.rays(box)
    z = -EYE / up
    x = canvas.x + right * z
    across, deep, side = z / canvas.focal, z**2 / (canvas.focal * EYE), np.abs(x)  # a pixel's size in metres

    grain = canvas.texture(x, z, np.sqrt(across * deep), 3.0, 8)
    joints = np.maximum(stripes(x, 0.6, 0, 0.03, across), stripes(z, 0.6, 0, 0.03, deep))
    patches = np.clip(6 * canvas.texture(x + 50, z / 2, across, 5.0, 3) - 4, 0, 1)
    dashes = band(side, -1, 0.07, across) * stripes(z, 6.0, 0, 3.0, deep) + band(side, 3.25, 3.37, across)
    dashes = dashes * (1 - band(z, crossing - 2.5, crossing + 2.5, deep))
    zebra = stripes(x, 1.0, 0, 0.5, across) * band(side, -1, 3.2, across)
    zebra = zebra * band(z, crossing - 1.5, crossing + 1.5, deep)

    look = MATERIALS["pavement"].look * (1 - 0.25 * joints[..., None])
    look = lay(look, MATERIALS["asphalt"], band(side, -1, KERB, across))
    look = lay(look, MATERIALS["patch"], patches * band(side, -1, KERB, across))
    look = lay(look, MATERIALS["tyre_track"], 0.7 * band(np.abs(side - LANE), 0.6, 0.9, across))
    look = lay(look, MATERIALS["kerb"], band(side, KERB, KERB + 0.22, across))
    look = lay(look, MATERIALS["paint"], (dashes + zebra) * np.clip(0.8 + 0.2 * grain, 0.3, 1))
    look *= (1 + grain[..., None] * np.float32([0.13, 0.13, 0.13, 0.09])) * canvas.light(x, z)
    canvas.blend(box, np.ones_like(x), look, z)


def paint_wall(canvas, rng, material, height, x, z):
    """A wall of windows from (x[0], z[0]) to (x[1], z[1]): along the street (equal x) or across (equal z)."""
    chance, other = rng.random((2, 64, 64), np.float32)  # of each room: is it lit, how bright or warm is it
    tint = np.float32([*(rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)), 1])
    lit_share, bay, storey = rng.uniform(0.2, 0.5), rng.uniform(2.2, 3.2), 3.1
    sign = Material(tuple(rng.uniform(0.05, 0.6, 3)), None)
    found = canvas.cover([[(x[0], 0, z[0]), (x[1], 0, z[1]), (x[1], height, z[1]), (x[0], height, z[0])]])
    if found is None:
        return
    box, alpha = found
    right, up = canvas.rays(box)
    if x[0] == x[1]:
        depth = np.clip((x[0] - canvas.x) / np.where(np.abs(right) < 1e-3, 1e-3, right), *z)
        along, step = depth - z[0], depth**2 / (canvas.focal * abs(x[0] - canvas.x))
    else:
        depth = np.full_like(right, z[0])
        along, step = canvas.x + right * depth - x[0], depth / canvas.focal
    y, rise = EYE + up * depth, depth / canvas.focal  # `step` and `rise` are a pixel's size in metres
    floor, room = (np.floor(t).astype(int) % 64 for t in (y / storey, along / bay))
    chance, other, fx, fy = chance[floor, room], other[floor, room], np.mod(along, bay), np.mod(y, storey)
    shop = y < storey
    sill, margin = np.where(shop, 0.5, 0.95), np.where(shop, 0.2, 0.62)

    course = np.floor(y / 0.24).astype(int)
    tone = canvas.tile[course % 256, np.floor(along / 0.55 + 0.5 * (course % 2)).astype(int) % 256]
    tone = 0.1 * tone * np.clip(1.6 - 4 * step, 0, 1)
    mortar = stripes(y, 0.24, 0, 0.035, rise)[..., None] * np.float32([0.25, 0.25, 0.25, -0.15])
    stain = canvas.texture(along, y, np.sqrt(step * rise), 4.0, 7)
    look = material.look * tint * (1 + (tone + 0.09 * stain)[..., None] + mortar)

    def pane(grow):
        wide = band(fx, margin - grow, bay - margin + grow, step)
        return wide * band(fy, sill - grow, 2.45 + grow, rise) * band(y, 0, height - 0.8, rise)

    radiators = band(fx, margin, bay - margin, step) * band(fy, 0.3, 0.85, rise) * (chance < 0.3) * ~shop
    leaks = np.clip(3 * canvas.texture(along + 90, y, rise, 5.0, 3) - 3.2, 0, 1)
    look = lay(look, MATERIALS["heat"], 0.5 * radiators + 0.4 * leaks)
    ledges = np.maximum(band(fy, 0, 0.16, rise), band(y, height - 0.5, height, rise))
    look = lay(look, MATERIALS["trim"], 0.7 * ledges)
    look = lay(look, MATERIALS["trim"], pane(0.12)) * canvas.light(x[0], depth)
    board = band(y, 2.55, 3.0, rise) * (chance < 0.6)
    look = lay(look, sign, board)
    letters = stripes(along, 0.31, 0.1, 0.22, step) * band(y, 2.66, 2.88, rise)
    look = lay(look, Material((1.1, 1.0, 0.8), None), board * letters)

    lit = chance < np.where(shop, 0.6, lit_share)
    things = canvas.tile[np.floor(y / 0.35).astype(int) % 256, np.floor(along / 0.28).astype(int) % 256]
    curtains = band(np.abs(fx - bay / 2), bay / 2 - margin - 0.3, bay, step)  # or, low in a shop, its goods
    dim = np.where(shop, np.clip(things, 0, 0.8) * (fy < 1.7), 0.45 * curtains + 0.25 * (fy < 1.6))
    glow = (lit * (0.4 + 1.1 * other) * (1 - dim))[..., None]
    neon = (chance * 37 % 1 > 0.75)[..., None]
    lamp = np.where(neon, np.float32([0.80, 0.90, 1.0]), np.float32([1.0, 0.66, 0.30]))
    sky = (0.05 + 0.2 * np.clip(y / 25, 0, 1))[..., None] * canvas.haze
    reflected = 0.7 * MATERIALS["glass"].look[:3] + sky
    heat = 0.13 + 0.12 * lit + 0.14 * other + 0.02 * stain
    inside = np.concatenate([reflected + glow * lamp, heat[..., None]], -1)
    canvas.blend(box, alpha, lay(look, inside, pane(0) * (np.abs(fx - bay / 2) > 0.05)), depth)


def paint_buildings(canvas, rng):
    """A skyline that closes the street, then both rows of houses, far to near."""
    for depth in (150, 125):
        for x in range(-90, 90, 15):
            material, height = MATERIALS[rng.choice(WALLS)], rng.uniform(8, 26)
            paint_wall(canvas, rng, material, height, (x, x + 15), (depth, depth))
    for side in (-1, 1):
        ends = rng.uniform(2, 5) + np.cumsum(rng.uniform(9, 20, 9))
        for near, far in list(pairwise(ends))[::-1] + [(1.0, ends[0])]:
            far -= rng.uniform(3, 7) * (rng.random() < 0.25)  # an alley
            face = side * (FACADE + rng.choice([0, 0, 0.6]))
            material, height = MATERIALS[rng.choice(WALLS)], rng.uniform(7.5, 17)
            paint_wall(canvas, rng, material, height, sorted((face, face + 12 * side)), (near, near))
            paint_wall(canvas, rng, material, height, (face, face), (near, far))


def paint_manhole(canvas, x, z):
    """A warm lid and, for IR only, the buried pipe that warms it."""
    canvas.paint([flat(rectangle(x - 0.18, x + 0.18, z, 3 * z))], MATERIALS["pipe"], soft=0.06)
    canvas.paint([flat(ellipse(x, z, 0.4, 0.4))], MATERIALS["manhole"])


def paint_lamp(canvas, x, z):
    """A street lamp; its arm reaches over the road."""
    top, head = 6.2, x - 1.7 * np.sign(x)
    canvas.paint([upright(limb((x, 0), (x, top), 0.08, 0.05), z)], MATERIALS["metal"])
    canvas.paint([upright(limb((x, top), (head, top + 0.3), 0.045, 0.04), z)], MATERIALS["metal"])
    canvas.paint([upright(ellipse(head, top + 0.22, 0.36, 0.13), z)], MATERIALS["lamp"])


def paint_tree(canvas, rng, x, z):
    """A trunk with boughs and a crown of ragged tufts; cool and mottled in IR."""
    height, reach, leaves = rng.uniform(4.6, 6.4), rng.uniform(1.2, 1.8), MATERIALS["leaves"]
    canvas.paint([upright(limb((x, 0), (x, 0.6 * height), 0.16, 0.09), z)], MATERIALS["bark"])
    for dx in (-0.6, 0.1, 0.7):
        bough = limb((x, 0.45 * height), (x + dx * reach, 0.8 * height), 0.08, 0.03)
        canvas.paint([upright(bough, z)], MATERIALS["bark"])
    for angle, out, radius, shade in rng.uniform((0, 0.2, 0.45, 0.75), (2 * np.pi, 0.75, 0.62, 1.25), (9, 4)):
        cx, cy = x + out * reach * np.cos(angle), height * (0.82 + 0.2 * out * np.sin(angle))
        radius *= reach
        found = canvas.cover([upright(ellipse(cx, cy, 1.4 * radius, 1.2 * radius), z)])
        if found is None:
            continue
        box, _ = found
        right, up = canvas.rays(box)
        px, py = canvas.x + right * z, EYE + up * z
        leaf = canvas.texture(px + 7 * shade, py, z / canvas.focal, 0.5, 4)
        alpha = 3 * (0.95 - np.hypot((px - cx) / radius, (py - cy) / (0.85 * radius)) + 0.28 * leaf)
        tone = shade * np.clip(1 + leaves.grain * leaf + 0.5 * (py - cy) / radius, 0.15, 2.2)
        tone = np.stack([tone, tone, tone, 1.15 + 0.2 * leaf - 0.15 * shade], -1)
        canvas.blend(box, np.clip(alpha, 0, 1), leaves.look * tone * canvas.light(x, z), z)


def paint_guardrail(canvas, x, near, far):
    """Two steel rails on posts along the road: bright to VI; IR sees the cold sky in them."""
    for z in np.arange(far, near - 0.1, -2.0):
        canvas.paint([upright(rectangle(x - 0.06, x + 0.06, 0, 0.7), z)], MATERIALS["metal"], GUARDRAIL)
    for low, high, name in ((0.62, 0.78, "rail"), (0.57, 0.63, "metal"), (0.44, 0.58, "rail")):
        rail = np.insert(rectangle(low, high, near, far), 0, x, axis=1)
        canvas.paint([rail], MATERIALS[name], GUARDRAIL)


def paint_cone(canvas, x, z):
    """An orange cone; its white rings are as warm as the rest."""
    canvas.paint([upright(ellipse(x, 0.03, 0.27, 0.05), z)], MATERIALS["cone"], CONE)
    for low, high, name in ((0, 0.75, "cone"), (0.25, 0.37, "paint"), (0.5, 0.62, "paint")):
        a, b = 0.2 - 0.22 * low, 0.2 - 0.22 * high
        ring = upright([(x - a, low), (x + a, low), (x + b, high), (x - b, high)], z)
        canvas.paint([ring], MATERIALS[name], CONE)


def paint_car(canvas, rng, x, z, oncoming, running):
    """A car with its nearest bumper at z, seen from behind or, oncoming, from the front; warm if running."""
    profile, covers = CARS[rng.choice(3, p=[0.4, 0.45, 0.15])], COVERS
    body = Material(BODYWORK[rng.integers(len(BODYWORK))], 0.24, 0.06)
    bonnet = replace(body, warmth=MATERIALS["bonnet"].warmth if running else body.warmth)
    materials = {**MATERIALS, "body": body, "bonnet": bonnet}
    length, roof = profile.max(0)
    if oncoming:
        profile, covers = profile[::-1] * (-1, 1) + (length, 0), covers[::-1]
    half = 0.88 - 0.52 * np.maximum(profile[:, 1] - 0.95, 0) / roof
    left, right = (np.column_stack([x + s * half, profile[:, 1], z + profile[:, 0]]) for s in (-1, 1))

    ground = flat(rectangle(x - 1, x + 1, z - 0.2, z + length))
    canvas.paint([ground], MATERIALS["shadow"], soft=0.12)
    if running:
        canvas.paint([ground], MATERIALS["pipe"], soft=0.25)
    canvas.paint([upright(rectangle(x - 0.75, x + 0.75, 0.1, 0.4), z + 0.1)], MATERIALS["plastic"], CAR)
    for wheel in (x - 0.7, x + 0.7):
        tyre = upright(rectangle(wheel - 0.11, wheel + 0.11, 0, 0.45), z + 0.15)
        canvas.paint([tyre], MATERIALS["tyre"], CAR)

    if abs(x - canvas.x) > half[0]:
        flank = left if x > canvas.x else right
        canvas.paint([flank], body, CAR)
        cabin = flank[3:7]
        window = (cabin - cabin.mean(0)) * (1, 0.7, 0.86) + cabin.mean(0) + (0, 0.03, 0)
        canvas.paint([window], MATERIALS["glass"], CAR)
        for axle in (0.19, 0.81):
            for radius, name in ((0.37, "plastic"), (0.31, "tyre"), (0.18, "rim")):
                disc = np.insert(ellipse(0.31, z + axle * length, radius, radius), 0, flank[0, 0], axis=1)
                canvas.paint([disc], MATERIALS[name], CAR)
    for i in reversed(range(len(covers))):
        (a0, y0), (a1, y1) = profile[i], profile[i + 1]
        if (y1 - y0) * (z + a0) + (a1 - a0) * (EYE - y0) > 0:  # it faces the camera
            panel = np.stack([left[i], right[i], right[i + 1], left[i + 1]])
            canvas.paint([panel], materials[covers[i]], CAR)

    lights = {(1, 1): "headlight", (1, 0): "rim", (0, 1): "taillight", (0, 0): "reflector"}[oncoming, running]
    for s in (-0.66, 0.66):
        canvas.paint([upright(ellipse(x + s, 0.72, 0.16, 0.1), z)], MATERIALS[lights], CAR)
    canvas.paint([upright(rectangle(x - 0.26, x + 0.26, 0.42, 0.54), z)], MATERIALS["plate"], CAR)
    if running and oncoming:
        grille = upright(rectangle(x - 0.45, x + 0.45, 0.46, 0.7), z)
        canvas.paint([grille], MATERIALS["bonnet"], soft=0.06)
    elif running:
        canvas.paint([upright(ellipse(x + 0.5, 0.27, 0.12, 0.08), z)], MATERIALS["exhaust"], soft=0.03)


def paint_person(canvas, rng, x, z, heading, pose=WALKING):
    """Somebody heading away from us (0), to the right (pi / 2) or towards us (pi)."""
    size, stride = rng.uniform(1.58, 1.86), 1.0 if pose is RIDING else rng.uniform(0.5, 1.05)
    coat = Material(CLOTHES[rng.integers(5)], rng.uniform(0.71, 0.79), 0.2)
    trousers = Material(CLOTHES[rng.integers(3)], rng.uniform(0.66, 0.74), 0.2)
    skin, hair, shoe = (MATERIALS[name] for name in ("skin", "hair", "plastic"))
    joints = np.array(pose) * (stride, 1, 1)
    joints = size * np.stack([joints @ (np.sin(heading), -np.cos(heading), 0), joints[..., 2]], -1) + (x, 0)

    def bone(a, b, ra, rb, material):
        canvas.paint([upright(limb(a, b, ra * size, rb * size), z)], material, PERSON)

    if pose is WALKING:
        canvas.paint([flat(ellipse(x, z, 0.4, 0.25))], MATERIALS["shadow"], soft=0.08)
    (hip, neck, head), *limbs = joints
    for start, knee, foot in limbs[:2]:
        bone(foot, foot + (0.09 * np.sin(heading), 0), 0.022, 0.018, shoe)
        bone(knee, foot, 0.04, 0.026, trousers)
        bone(start, knee, 0.055, 0.042, trousers)
    broad = 0.072 + 0.03 * abs(np.cos(heading))
    bone(hip, neck - (0, 0.04 * size), broad * 0.9, broad, coat)
    for start, elbow, hand in limbs[2:]:
        bone(hand, hand, 0.022, 0.022, skin)
        bone(start, elbow, 0.036, 0.028, coat)
        bone(elbow, hand, 0.028, 0.02, coat)
    bone(neck, head, 0.034, 0.034, skin)
    bone(head, head + (0, 0.02), 0.05, 0.052, skin)
    # Hair sits further back when seen from the side, and hides the head when seen from behind.
    back = np.array([-0.03 * np.sin(heading), 0.035 - 0.03 * np.cos(heading)])
    bone(head + back, head + back + (0, 0.02), 0.045, 0.047, hair)


def paint_bike(canvas, x, z, facing):
    """A bicycle side on, `facing` 1 to the right or -1 to the left: cold tubes, tyres a little warmer."""
    rear, front, pedal, saddle, bar = (-0.52, 0.34), (0.52, 0.34), (-0.08, 0.3), (-0.22, 0.86), (0.38, 0.84)
    for hub in (rear, front):
        rings = [upright(ellipse(x + facing * hub[0], hub[1], r, r, 32), z) for r in (0.34, 0.285)]
        canvas.paint(rings, MATERIALS["tyre"], BIKE)
    strokes = (
        (0.020, "tube", (rear, pedal, saddle, rear)),
        (0.024, "tube", (pedal, bar, (-0.2, 0.78))),
        (0.020, "tube", (front, bar, (0.4, 1.0), (0.5, 1.02))),
        (0.035, "plastic", ((-0.32, 0.92), (-0.12, 0.9))),
    )
    for radius, name, points in strokes:
        points = np.array(points) * (facing, 1) + (x, 0)
        for a, b in pairwise(points):
            canvas.paint([upright(limb(a, b, radius, radius), z)], MATERIALS[name], BIKE)


def expose(canvas, rng):
    """What the sensors make of the scene: VI (H, W, 3) with glare and dark noise, IR (H, W) soft, striped."""
    height, width = canvas.label.shape
    scale = np.sqrt(height * width) / 554  # blurs are given in pixels of a 480 x 640 image
    vi, ir = canvas.look[..., :3], canvas.look[..., 3]
    glare = np.maximum(vi - 0.95, 0)
    for sigma, weight in ((3, 0.35), (11, 0.30), (34, 0.35)):
        vi = vi + weight * cv2.GaussianBlur(glare, (0, 0), max(sigma * scale, 0.3))
    vi = cv2.GaussianBlur(1 - np.exp(-1.5 * vi), (0, 0), max(0.6 * scale, 0.2))
    noise = rng.standard_normal((height, width, 4), np.float32)
    vi = vi + (0.009 + 0.012 * (1 - vi)) * (noise[..., :3] + 0.7 * noise[..., 3:])

    ir = cv2.GaussianBlur(ir, (0, 0), max(1.1 * scale, 0.3))
    columns, pixels = (rng.standard_normal((rows, width), np.float32) for rows in (1, height))
    ir = 1.08 * ir - 0.02 + 0.005 * columns + 0.007 * pixels
    return np.clip(vi, 0, 1), np.clip(ir, 0, 1)


def render_scene(seed: int, height: int = 480, width: int = 640) -> dict:
    """Paint the street of a seed; the layout does not depend on the size.

    Returns `vi` (3, H, W) RGB and `ir` (1, H, W), float32 in [0, 1], and `label` (H, W), int64 MSRS classes.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(height, width, rng)
    crossing = rng.uniform(9, 13)  # depth of the zebra crossing
    things = []  # (depth, painter of one thing)

    def add(painter, x, z, **options):
        things.append((z, partial(painter, canvas, x=x, z=z, **options)))

    for side, start in zip((-1, 1), rng.uniform(11, 16) + np.array([0, 9])):
        for z in np.arange(start, 100, 20):
            add(paint_lamp, side * (KERB + 0.5), z)
            canvas.lamps.append((side * (KERB - 1.2), z, 6.0, (0.95, 0.72, 0.42)))
        for z in np.arange(rng.uniform(12, 20), 80, 14):
            add(paint_tree, side * (KERB + 0.9), z, rng=rng)
        for z in np.cumsum(rng.uniform(5.5, 8, 8)) + rng.uniform(1, 5):  # parked cars
            if abs(z + 2 - crossing) > 5.5 and rng.random() < 0.75:
                add(paint_car, side * (KERB - 1), z, rng=rng, oncoming=side < 0, running=False)

    for z in crossing + rng.uniform(4, 7) + np.cumsum(rng.uniform(8, 20, rng.integers(1, 4))) - 8:
        add(paint_car, LANE, z, rng=rng, oncoming=False, running=True)
    for z in crossing + rng.uniform(3, 9) + np.cumsum(rng.uniform(8, 20, rng.integers(1, 4))) - 8:
        add(paint_car, -LANE, z, rng=rng, oncoming=True, running=True)
        canvas.lamps.append((-LANE, z - 3, 2.5, (0.8, 0.8, 0.75)))  # what its headlights throw on the road

    for x in rng.uniform(-3, 4.5, rng.integers(1, 4)):  # people on the crossing and on the pavements
        z, heading = crossing + rng.uniform(-1.2, 1.2), rng.choice([-1, 1]) * np.pi / 2
        add(paint_person, x, z, rng=rng, heading=heading)
    for z in rng.uniform(8, 40, rng.integers(4, 9)):
        x = rng.choice([-1, 1]) * rng.uniform(KERB + 0.8, FACADE - 0.4)
        add(paint_person, x, z, rng=rng, heading=rng.choice([0, np.pi]) + rng.uniform(-0.4, 0.4))
    if rng.random() < 0.6:  # a cyclist
        x, z, facing = rng.uniform(-3, 3), crossing + rng.uniform(2, 3), rng.choice([-1, 1])
        add(paint_bike, x, z, facing=facing)
        add(paint_person, x, z, rng=rng, heading=facing * np.pi / 2, pose=RIDING)
    for z in rng.uniform(9, 22, rng.integers(0, 4)):
        add(paint_bike, rng.choice([-1, 1]) * (FACADE - 0.3), z, facing=rng.choice([-1, 1]))

    manhole = rng.uniform(0.4, 2.8), rng.uniform(4.2, 7)
    if rng.random() < 0.5:
        for dx, dz in ((-0.9, 0.5), (0.8, 0.9), (0.0, 1.6)):
            add(paint_cone, manhole[0] + dx, manhole[1] + dz)
    rail = rng.choice([-1, 1]) * (KERB + 0.25) if rng.random() < 0.5 else None

    paint_sky(canvas)
    paint_ground(canvas, crossing)
    paint_buildings(canvas, rng)
    paint_manhole(canvas, *manhole)
    if rail is not None:
        paint_guardrail(canvas, rail, crossing + 3, 40)
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()

    vi, ir = expose(canvas, rng)
    return {
        "vi": torch.from_numpy(np.ascontiguousarray(vi.transpose(2, 0, 1))),
        "ir": torch.from_numpy(ir[None]),
        "label": torch.from_numpy(canvas.label.astype(np.int64)),
    }
