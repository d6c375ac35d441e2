"""ssmtunneld: warm port-forwarding tunnels through AWS Session Manager."""

__version__ = "0.1.0"
