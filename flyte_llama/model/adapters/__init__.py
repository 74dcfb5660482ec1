"""Low-rank adapters, in peft's format: LoRA and DoRA.

files         what a saved adapter holds, and whether it is taken
tensors       its tensors beside a model: what fits, can be merged and can be trained
tokens        the tokens whose embedding rows it has learned, by name
token_layers  the layer that learns such rows
lora          add, continue, load and merge adapters
skeleton      try all that on a base without weights, before a run
dora          rows of zeros, which DoRA cannot scale
folder        complete a written adapter, so that peft alone loads it
adapted_linear  an adapted layer with fewer kernels
"""
