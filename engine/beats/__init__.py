"""Beat tracking: from hops of audio to a predicted beat timeline."""
