"""How networks learn, whatever they learn: settings, chance, the loop, checkpoints, curves. Offline; needs torch."""
