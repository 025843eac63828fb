"""``python tools/train_senna_mini.py``: see ``demo_model/train_senna_mini.py``."""

from demo_model.train_senna_mini import main

if __name__ == "__main__":
    main()
