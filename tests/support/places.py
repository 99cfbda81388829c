"""Where the checkout and its photographs lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_images"
README = ROOT / "README.md"
SHARED_DATA = ROOT.parent / "shared" / "data"  # photographs with measured answers, where they are
