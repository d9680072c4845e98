"""Which joint of somebody's rig is which of SMPL's 24: by name, for the rigs that are common.

Names are compared without namespace, case and separators. Two families disagree on what a name means: in SMPL's own
names `left_foot` is the ball of the foot and `left_shoulder` the joint of the upper arm; in Mixamo's, CMU's and most
others' (Motion Builder's) `LeftFoot` is the ankle and `LeftShoulder` the collar. The family is told by the hips.
"""

from __future__ import annotations

import re

from engine.body.skeleton import JOINT_NAMES

# For each joint of SMPL, names it has, most telling first. L stands for the side.
_SMPL = {
    "pelvis": ("pelvis", "hips", "hip", "root"),
    "left_hip": ("Lhip", "Lthigh"),
    "left_knee": ("Lknee", "Lshin", "Lcalf"),
    "left_ankle": ("Lankle",),
    "left_foot": ("Lfoot", "Ltoe", "Ltoes", "Ltoebase"),
    "spine1": ("spine1", "chest", "torso", "abdomen"),
    "spine2": ("spine2", "chest2"),
    "spine3": ("spine3", "chest3", "chest4"),
    "neck": ("neck",),
    "head": ("head",),
    "left_collar": ("Lcollar", "Lclavicle"),
    "left_shoulder": ("Lshoulder", "Luparm", "Lupperarm"),
    "left_elbow": ("Lelbow", "Lforearm", "Llowarm"),
    "left_wrist": ("Lwrist",),
    "left_hand": ("Lhand",),
}
_MOTION_BUILDER = {
    "pelvis": ("hips", "pelvis", "hip", "root"),
    "left_hip": ("Lupleg", "Lthigh", "Lupperleg"),
    "left_knee": ("Lleg", "Lcalf", "Lshin", "Llowerleg"),
    "left_ankle": ("Lfoot", "Lankle"),
    "left_foot": ("Ltoebase", "Ltoe", "Ltoes", "Lball"),
    "spine1": ("lowerback", "spine"),
    "spine2": ("spine1", "spine"),
    "spine3": ("spine2", "spine3", "chest", "upperchest"),
    "neck": ("neck", "neck1"),
    "head": ("head",),
    "left_collar": ("Lshoulder", "Lcollar", "Lclavicle"),
    "left_shoulder": ("Larm", "Lupperarm", "Luparm"),
    "left_elbow": ("Lforearm", "Llowerarm", "Llowarm"),
    "left_wrist": ("Lhand", "Lwrist"),
    "left_hand": ("Lhandmiddle1", "Lfingerbase", "Lhandindex1", "Lfingers"),
}
# CMU's skeleton (as converted by B. Hahne) has one joint more below: LowerBack, Spine, Spine1.
_CMU_SPINE = {"spine1": ("lowerback",), "spine2": ("spine",), "spine3": ("spine1",)}

REQUIRED = tuple(
    name
    for name in JOINT_NAMES
    if name.split("_")[-1] in ("pelvis", "hip", "knee", "ankle", "shoulder", "elbow", "wrist", "head")
)
"""Without these a rig is no body that we can follow; the others are left as they are at rest."""


def map_joints(names: tuple[str, ...]) -> dict[int, int]:
    """Return, for joints of SMPL by index, the index of the rig's joint.

    Raises ValueError if a necessary one is missing.
    """
    plain: dict[str, int] = {}
    for index, name in enumerate(names):
        plain.setdefault(_plain(name), index)
    tables = _MOTION_BUILDER if {"lupleg", "lthigh", "lupperleg"} & set(plain) and "lankle" not in plain else _SMPL
    if tables is _MOTION_BUILDER and "lowerback" in plain:
        tables = {**_MOTION_BUILDER, **_CMU_SPINE}
    found: dict[int, int] = {}
    for joint, name in enumerate(JOINT_NAMES):
        side = "r" if name.startswith("right") else "l"
        for alias in tables[name.replace("right_", "left_")]:
            index_ = plain.get(alias.replace("L", side, 1))
            if index_ is not None and index_ not in found.values():
                found[joint] = index_
                break
    missing = [name for name in REQUIRED if JOINT_NAMES.index(name) not in found]
    if missing:
        raise ValueError(f"its skeleton has no joint known as {', '.join(missing[:4])}")
    return found


def _plain(name: str) -> str:
    """Return a name in lower case without namespace and separators, its side as a first letter."""
    bare = re.split(r"[:|]", name)[-1]
    bare = re.sub(r"^(mixamorig\d*|bip\d*|m_avg|f_avg|b|def)[ _\-.]?(?=[A-Za-z])", "", bare, flags=re.IGNORECASE)
    side = ""
    for pattern, letter in _SIDES:
        if re.search(pattern, bare):
            bare, side = re.sub(pattern, "", bare, count=1), letter
            break
    return side + re.sub(r"[^a-z0-9]", "", bare.lower())


_SIDES = (
    (r"(?i)left", "l"),
    (r"(?i)right", "r"),
    (r"^[lL][ _\-.]|[ _\-.][lL]$|^[lL](?=[A-Z])", "l"),
    (r"^[rR][ _\-.]|[ _\-.][rR]$|^[rR](?=[A-Z])", "r"),
)
