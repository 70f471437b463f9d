"""From a street to one frame: ground, sky, shadows, the scene and its sensor."""
