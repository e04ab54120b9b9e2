"""The contract that the live service and the shadow side share: records, schemas, framing, topic names."""
