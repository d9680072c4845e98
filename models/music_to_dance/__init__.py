"""G_MD: the music -> dance network, what it learns from and how, its graph for the stage and its live generator."""
