"""What stands or moves beside the road: buildings, trees, furniture, people, vehicles."""
