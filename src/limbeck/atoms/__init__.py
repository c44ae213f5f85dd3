"""Interatomic potentials: energies, forces and virials of any atoms, and small potentials from large ones."""
