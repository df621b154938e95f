"""One call from admission to reply: prepared, collected, completed; its sets embedded first."""
