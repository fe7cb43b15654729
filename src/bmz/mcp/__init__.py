"""What an MCP client may ask of bmz: tools over the JSON documents, below named folders."""
