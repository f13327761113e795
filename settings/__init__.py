"""The settings, typed and checked. inventory/group_data/all.py has their defaults and explains them."""
