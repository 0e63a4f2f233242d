"""What the product takes, beside bare baselines, on one machine in one run: docs/performance.md."""
