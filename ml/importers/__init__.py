"""Public data sets, as people have them on disk, taken into a data set of ours."""
