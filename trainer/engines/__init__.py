"""Other trainers' loops under our objectives, log and control."""
