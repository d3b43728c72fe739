"""CLIP and its relatives: loading, image towers, zero-shot and trained heads, open_clip."""
