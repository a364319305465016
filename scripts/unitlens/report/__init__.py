"""What people read: sentences, figures, pages."""
