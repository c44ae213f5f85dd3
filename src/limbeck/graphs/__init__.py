"""Distilling data sets of graphs: a few frequent computation trees in place of all graphs."""
