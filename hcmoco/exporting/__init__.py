"""Encoders in the forms that other programs load. Each file is loaded anew and compared before it is kept."""
