"""What a result means: anchor coverage, errors of detections, the focal loss explained, significance of differences."""
