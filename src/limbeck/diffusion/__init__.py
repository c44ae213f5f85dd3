"""Diffusion: a sampler of many steps becomes a generator of one or a few.

A `Denoiser` guesses the clean picture behind a noisy one; samplers turn it into pictures in tens of calls.
"""
