"""The dual objective (Wu et al. 2021): music -> dance and dance -> music learned together."""
