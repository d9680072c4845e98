"""G_DM: the dance -> music network, what it learns from and how, and its live composer."""
