"""Fine-tuning: from labelled texts to a training run that `models.export` turns into a bundle.

Needs the extra `train` (torch, transformers); nothing here is imported by the daemon.
"""
