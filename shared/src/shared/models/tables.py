"""The one collection of tables, of the ledger and of the pipelines."""

from sqlalchemy import MetaData

metadata = MetaData()
