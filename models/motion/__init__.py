"""Motion as the networks see it: tick vectors, forward kinematics, resampling, contact sheets."""
