"""The engine: how token sequences run through a model, from the plan of what they share to the hidden states.

`plan` makes bins of what `prefixes` finds shared and `cost` says is worth it, of the ways that `fastpath` opens to a
model; `loop` runs them within a `budget` of tokens, with `attention` for packed rows and `tail` for their last layer,
and on several devices with `workers`. What is true of one kind of device only stands in `rmbench.device`.
"""
