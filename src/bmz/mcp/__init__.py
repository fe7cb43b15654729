"""The MCP server of bmz: tools that return JSON documents and stay within named folders."""
