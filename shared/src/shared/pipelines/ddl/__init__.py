"""From pipelines to the tables and views of PostgreSQL: what there is, what there shall be, and what has to be done."""
