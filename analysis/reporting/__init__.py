"""What tables, sheets and the report page are made of."""
