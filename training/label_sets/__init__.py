"""Label sets: which classes masks and boxes have, as YAML files, and how the classes of one set map to another's."""
