"""What runs did and cost, as pandas DataFrames. pandas is imported when a frame is asked for."""
