"""Reports: everything that draws figures or writes pages from the numbers of `corpus` and `evaluation`."""
