"""Turns stored runs into a comparison's verdicts; the only importer of scipy, sacrebleu and rouge_score."""
