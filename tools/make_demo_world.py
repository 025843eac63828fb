"""``python tools/make_demo_world.py``: see ``demo_world/make_demo_world.py``."""

from demo_world.make_demo_world import main

if __name__ == "__main__":
    main()
