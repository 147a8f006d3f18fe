"""Pages that explain datasets and runs: one HTML file each, readable offline."""
