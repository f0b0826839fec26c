"""What the heart knows of a platform (`contract.py`), and one folder for each platform."""
