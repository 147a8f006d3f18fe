"""Pages that explain data and runs: one HTML file each, readable offline."""
