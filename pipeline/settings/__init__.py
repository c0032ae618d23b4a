"""The parameters of stages that import heavy libraries, a file a stage: whoever checks them loads none of those."""
