"""Teachers: networks of any origin that say what is in an image, in the classes of a student."""
