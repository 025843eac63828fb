"""Questions + model + policy -> answers (store) -> measures -> retention, flips, controls."""
