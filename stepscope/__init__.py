"""StepScope: what makes this T5-like model fast, here, on my inputs, and what does it cost in quality?"""

__version__ = "0.1.0"
