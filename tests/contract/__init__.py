"""The real SDKs of other APIs as clients of the gateway, over HTTP."""
