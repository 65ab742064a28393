"""`etlpay validate`: whole files against a pipeline, and the reports on them."""
