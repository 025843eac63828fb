"""Questions + model + policy -> answer rows."""
