"""The notice that goes with every answer and every exported model."""

NOTICE = "Research screening, never a diagnosis."
