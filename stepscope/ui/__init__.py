"""What the pages are made of; besides pages, the only importer of streamlit."""
