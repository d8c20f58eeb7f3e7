"""The embedded switch: runs BMv2 JSON, serves P4Runtime, takes simple_switch_grpc's flags."""
