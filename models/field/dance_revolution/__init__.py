"""Dance Revolution (Huang et al. 2021): a local music encoder, a recurrent dance decoder, and a curriculum."""
