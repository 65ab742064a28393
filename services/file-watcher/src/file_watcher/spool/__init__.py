"""The spool: the folders inbox/, work/, done/ and failed/, and the files that move between them."""
