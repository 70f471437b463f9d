"""The bill of materials of a release: packages of a vehicle, shipped models, and what those learnt from."""
