"""What Elasticsearch and OpenSearch share; their doors are `elasticsearch.py` and `opensearch.py`."""
