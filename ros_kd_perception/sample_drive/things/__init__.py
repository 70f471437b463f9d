"""Objects beside and on the road: buildings, trees, furniture, people, vehicles."""
