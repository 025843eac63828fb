"""``python tools/make_training_data.py``: see ``demo_world/make_training_data.py``."""

from demo_world.make_training_data import main

if __name__ == "__main__":
    main()
