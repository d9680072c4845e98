"""Dancing to Music (Lee et al., NeurIPS 2019): units between kinematic beats, composed to the style that is heard."""
