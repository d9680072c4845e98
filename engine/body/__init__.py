"""The body: SMPL's joints, their rotations and limits, what is read off them, and files of them."""
