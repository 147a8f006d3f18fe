"""Benchmarks of the plugin against Detectron2's and torchvision's RetinaNet and pycocotools."""
