"""Render one frame of a street: ground, sky, shadows, the scene and the sensor."""
