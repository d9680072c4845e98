"""The only place that knows another program's conventions."""
