"""The endpoints, a module each subject: what comes is checked, asked or kept, and answered. They know the service, no model."""
