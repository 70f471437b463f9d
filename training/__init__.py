"""Offline training of students: data, networks, distillation and one file for each job. Never installed on a vehicle."""
