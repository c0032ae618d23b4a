"""Tab-separated values, quoted as comma-separated ones are (`csv`), which is how spreadsheets and pandas write them."""

from pipeline.corpus.readers.csv import Delimited

READER = Delimited("\t")
