"""What ``scripts/dataset.py`` runs."""
