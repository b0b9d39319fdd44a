"""Import public data sets, folders and DICOM files into a data set."""
