"""Where one step of the dance model is computed: a back end for each kind of hardware, one memory, one cache.

`choose` picks; `step_memory` is what a dance remembers, wherever it is computed; `ort_backend` runs on the CPU and on
two kinds of NVIDIA card, `tensorrt_backend` compiles; `engine_cache` keeps what was compiled and never trusts it;
`failover` lets the CPU take over in the middle of a show.
"""
